"""All that goes around Lightning: for speed, with the share of an epoch that it gains, and so that nothing is lost.

The shares are of the processor time of 100 batches of the default run, with and without in turn, medians of eight to
ten pairs on a busy machine (Lightning 2.6). What gains less than 3 % is not done.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.loggers.csv_logs import CSVLogger, ExperimentWriter
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.loggers.tensorboard import TensorBoardLogger
from lightning.pytorch.profilers import PassThroughProfiler
from torch.utils.tensorboard.writer import SummaryWriter

from rnn_imdb.common.files import write_atomically

# how the names end of the files with what a run says at its end
_END = ".end"


def make_trainer(**arguments: Any) -> L.Trainer:
    """Lightning's Trainer, without what costs time or meddles with a run."""
    # each fit and test asks whether this is a Slurm job, and takes the weights of any hpc_ckpt_1.ckpt
    SLURMEnvironment.detect = staticmethod(lambda: False)
    trainer = L.Trainer(**arguments)
    # its handlers would wait for the other processes; signals are left to common.interrupts
    trainer._signal_connector.register_signal_handlers = lambda: None
    # gains 8 % together with NoProfiler: the call of sixty empty hooks a step is prepared. Lightning's
    # _call_callback_hooks skips what is not callable
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue] Lightning lists them there
        for name in dir(L.Callback):
            empty = getattr(L.Callback, name)
            of_a_batch = name.startswith("on_") and any(word in name for word in ("batch", "backward", "before"))
            if of_a_batch and getattr(callback, name) == empty.__get__(callback):
                setattr(callback, name, None)
    return trainer


class NoProfiler(PassThroughProfiler):
    """Gives one empty context to every hook, for each of which Lightning's own makes another."""

    _context = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # pyright: ignore[reportIncompatibleMethodOverride] entered all the same
        return self._context


def write_now(module: L.LightningModule, figures: Mapping[str, float], step: int) -> None:
    """Hand figures to the module's loggers, in place of ``self.log``.

    Gains 11 % for the loss of a step, which ``self.log`` collects at each step to write it at every tenth. It would
    write figures of a training epoch only after the epoch's checkpoint, where a kill loses them, and those of a test
    at the training's last step, which has other weights.
    """
    for logger in module.loggers:
        # drawn as a curve, the epoch is a staircase before all others
        left_out = {"epoch"} if isinstance(logger, TensorBoardLogger) else set()
        logger.log_metrics({name: figures[name] for name in figures if name not in left_out}, step=step)


@contextmanager
def written_at_the_end(loggers: Iterable[Logger]) -> Iterator[None]:
    """Let TensorBoard have what is written within the block in files of its own, in place of those of an earlier end.

    They hold figures of the best epoch, at its step, which training on from a later one would not take back. Sets
    ``TensorBoardLogger._experiment``.
    """
    boards = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
    for logger in boards:
        for file in Path(logger.log_dir).glob(f"*tfevents*{_END}"):
            file.unlink()
        logger.experiment.close()
        logger._experiment = SummaryWriter(logger.log_dir, filename_suffix=_END)
    yield
    for logger in boards:
        logger.experiment.close()


def keep_rows(loggers: Iterable[Logger], step: int) -> None:
    """Let every CSV logger keep the rows before ``step``, the first that will be done again.

    Lightning would delete the file of a run that goes on. Sets ``CSVLogger._experiment``.
    """
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            logger._experiment = _KeptRows(logger.log_dir, step)


class _KeptRows(ExperimentWriter):
    """Overrides ``_check_log_dir_exists`` and ``_rewrite_with_new_header``."""

    def __init__(self, log_dir: str, step: int) -> None:
        super().__init__(log_dir)
        if Path(self.metrics_file_path).is_file():
            self.metrics_keys, rows = self._read()
            self._write(row for row in rows if _is_kept(row, step))

    def _check_log_dir_exists(self) -> None:
        """Lightning's own removes the file."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.metrics_keys = fieldnames
        self._write(self._read()[1])

    def _read(self) -> tuple[list[str], list[dict[str, Any]]]:
        with Path(self.metrics_file_path).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            return list(reader.fieldnames or ()), list(reader)

    def _write(self, rows: Iterable[dict[str, Any]]) -> None:
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, self.metrics_keys)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(Path(self.metrics_file_path), buffer.getvalue().encode())


def _is_kept(row: Mapping[str, Any], step: int) -> bool:
    """Whether a row is whole, of a step before ``step``, and none of the end's, which comes again."""
    before = str(row.get("step")).isdecimal() and int(row["step"]) < step
    return (
        before
        and None not in row.values()
        and not any(row[name] for name in row if name.startswith(("test/", "best/")))
    )
