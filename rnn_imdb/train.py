"""``python -m rnn_imdb.train``: train a model, score its best epoch, and leave a run folder behind."""

import sys
import textwrap
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.console import as_command, counted, waiting
from rnn_imdb.common.errors import is_address
from rnn_imdb.common.files import CONFIG, METRICS, relative
from rnn_imdb.common.interrupts import Interrupted, deferred
from rnn_imdb.common.processes import is_leader
from rnn_imdb.common.runs import short_name
from rnn_imdb.config.checks import check
from rnn_imdb.config.command_line import pasted
from rnn_imdb.config.hydra import Footprint, leave_nothing, run_hydra
from rnn_imdb.config.identity import claimed
from rnn_imdb.config.schema import PARTS
from rnn_imdb.sweeps import command_line, job
from rnn_imdb.training import resume


def in_short(config: DictConfig) -> str:
    """The configuration as one sentence, in lines of at most 80 columns."""
    model, optimizer = config.model, config.optimizer
    parts = (
        f"{config.data.source} reviews",
        f"readout {model.readout}" if model.encoder == "rnn" else f"encoder {model.encoder}",
        f"state_dim {model.state_dim}",
        f"embedding_dim {model.embedding_dim}",
        f"{optimizer.name} {optimizer.learning_rate:g}",
        counted(config.trainer.max_epochs, "epoch"),
        f"seed {config.seed}",
    )
    return textwrap.fill(f"config  {', '.join(parts)}", 80, subsequent_indent=8 * " ")


def task(config: DictConfig) -> Any:
    """Train as ``config`` says: one run, one to continue, or one job of a sweep, which returns its objective."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    if hydra.mode == RunMode.MULTIRUN:
        # a launcher's worker runs no main
        with as_command():
            return job.run_job(config, folder)
    check(config)
    resuming = None
    if config.resume is not None:
        leave_nothing()
        resuming = resume.find(config, relative(folder.parent))
        # DDP's processes get this command line, and would find another run, for this one is now in use
        sys.argv = [f"resume={resuming}" if argument.startswith("resume=") else argument for argument in sys.argv]
    if resuming is not None:
        folder, config = resuming, resume.continued(resuming, config, hydra.overrides.task)
    elif is_leader() and not any(text.startswith("hydra.run.dir=") for text in hydra.overrides.hydra):
        folder = claimed(folder)
        Footprint.made[:1] = [folder]
    # the processes that DDP starts stay silent
    if is_leader():
        print(in_short(config), flush=True)
    # torch and Lightning take seconds to import, and a mistyped option should not wait for them
    with deferred(), waiting("importing torch and Lightning"):
        from rnn_imdb.training.run import train

    try:
        train(config, folder, resuming=resuming is not None)
    except Interrupted as interrupt:
        # a finished run that trains on goes on by the same command
        if (folder / CONFIG).is_file() and not (folder / METRICS).is_file():
            own = [f" {key}={value}" for key in PARTS if is_address(value := OmegaConf.select(config, key))]
            resumed = pasted("resume", Path(short_name(folder)))
            interrupt.remedy = f"python -m rnn_imdb.train {resumed}{''.join(own)}"
        raise


@as_command()
def main() -> None:
    with job.outliving_workers():
        run_hydra("train", task, command_line.prepare)


if __name__ == "__main__":
    main()
