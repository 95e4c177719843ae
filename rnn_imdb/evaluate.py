"""``python -m rnn_imdb.evaluate``: score a checkpoint on test reviews, or another split."""

from functools import partial

from omegaconf import DictConfig

from rnn_imdb.common.console import waiting
from rnn_imdb.common.files import BEST
from rnn_imdb.common.interrupts import deferred
from rnn_imdb.common.runs import find_checkpoint
from rnn_imdb.config.checks import check
from rnn_imdb.config.command_line import prepare
from rnn_imdb.config.hydra import run_hydra


def task(config: DictConfig) -> None:
    """Evaluate as ``config`` says."""
    check(config)
    # torch takes seconds to import, and a mistyped path should not wait for it
    path = find_checkpoint(config.checkpoint)
    with deferred(), waiting("importing torch and Lightning"):
        from rnn_imdb.training.evaluation import evaluate

    evaluate(
        config.checkpoint,
        split=config.split,
        data={name: value for name, value in config.data.items() if value is not None},
        # beside the folder of a run's checkpoints, or beside a file
        output=config.output or (path.parent.parent if path.parent.name == BEST.parent.name else path.parent),
        accelerator=config.accelerator,
    )


def main() -> None:
    run_hydra("evaluate", task, partial(prepare, bare="checkpoint"))


if __name__ == "__main__":
    main()
