"""``python -m rnn_imdb.benchmark``: how fast the scan is, and one epoch, beside torch.nn.RNN and Keras."""

import re
from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rnn_imdb.common.errors import UserError
from rnn_imdb.config.checks import check
from rnn_imdb.config.hydra import run_hydra

# options of one measurement alone
_OF_SCANS = ("batch_sizes", "state_dims", "time", "seconds")
_OF_EPOCHS = ("data", "optimizer", "trainer", "callbacks", "logger", "repeats")
# an epoch is whole, in one process, of single precision; and no contender has a schedule or another loss
_OF_EVERY_EPOCH = ("trainer.accelerator", "trainer.log_every_n_steps", "trainer.enable_progress_bar")
_OF_NO_EPOCH = ("optimizer.schedule", "optimizer.label_smoothing", "optimizer.target_replication")


def refuse_without_effect(overrides: Sequence[str], *, epoch: bool) -> None:
    """Refuse options that the measurement asked for does not depend on.

    Raises:
        UserError: the first of them.
    """
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        group = re.split(r"[.@]", key)[0]
        if not epoch and group in _OF_EPOCHS:
            raise UserError(f"{key} goes with epoch=true, which was not given: add it, or leave {key} out", exit_code=2)
        if epoch and group in _OF_SCANS:
            raise UserError(f"{key} goes with the scan, got epoch=true: leave one of them out", exit_code=2)
        if epoch and ((group == "trainer" and key not in _OF_EVERY_EPOCH) or key in _OF_NO_EPOCH):
            raise UserError(f"{key} cannot be given to all that epoch=true compares: leave it out", exit_code=2)


def task(config: DictConfig) -> None:
    """Measure as ``config`` says, print one table and write it as CSV."""
    check(config)
    refuse_without_effect(HydraConfig.get().overrides.task, epoch=config.epoch)
    from rnn_imdb.benchmarks import epochs, scans
    from rnn_imdb.benchmarks.table import machine, report
    from rnn_imdb.training import environment

    environment.start(seed=0)
    print(machine())
    rows = epochs.measure(config) if config.epoch else scans.measure(config)
    report(rows, config.output or f"benchmark_{'epoch' if config.epoch else 'scan'}.csv")


def main() -> None:
    run_hydra("benchmark", task)


if __name__ == "__main__":
    main()
