"""The rows of a CSV logger, of which Lightning would keep none where a run goes on."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.csv_logs import CSVLogger, ExperimentWriter
from lightning.pytorch.loggers.logger import Logger

from rnn_imdb.files import write_atomically


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
            # a row that a kill cut off is one of those that come again
            whole = [row for row in rows if None not in row.values() and _step(row) < step]
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
