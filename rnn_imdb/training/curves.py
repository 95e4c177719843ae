"""What loggers keep where a run goes on, of which Lightning would keep too little or too much."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.csv_logs import CSVLogger, ExperimentWriter
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.loggers.tensorboard import TensorBoardLogger
from torch.utils.tensorboard.writer import SummaryWriter

from rnn_imdb.common.files import write_atomically

# how the names end of the files with what a run says at its end
_END = ".end"


@contextmanager
def written_at_the_end(loggers: Iterable[Logger]) -> Iterator[None]:
    """Let TensorBoard have what is written within the block in files of its own, in place of those of an earlier end.

    They hold figures of the best epoch, at its step, which training on from a later one would not take back.
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
    """Let every CSV logger keep the rows before ``step``, the first that will be done again."""
    for logger in loggers:
        if isinstance(logger, CSVLogger):
            logger._experiment = _Rows(logger.log_dir, step)


class _Rows(ExperimentWriter):
    def __init__(self, log_dir: str, step: int) -> None:
        super().__init__(log_dir)
        path = Path(self.metrics_file_path)
        if path.is_file():
            names, rows = _read(path)
            # a row that a kill cut off is one of those that come again, as is the test's
            whole = [row for row in rows if None not in row.values() and _step(row) < step and not _is_test(row)]
            _write(path, names, whole)
            self.metrics_keys = list(names)

    def _check_log_dir_exists(self) -> None:
        """Lightning's own removes the file."""

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        path = Path(self.metrics_file_path)
        _write(path, fieldnames, _read(path)[1])


def _step(row: dict[str, Any]) -> float:
    found = str(row.get("step"))
    return int(found) if found.isdecimal() else math.inf


def _is_test(row: dict[str, Any]) -> bool:
    return any(value for name, value in row.items() if name.startswith("test/"))


def _read(path: Path) -> tuple[Sequence[str], list[dict[str, Any]]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return reader.fieldnames or (), list(reader)


def _write(path: Path, names: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, names)
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode())
