"""What a finished run left: its metrics, and which reviews it read. Imports nothing heavy."""

import math
from pathlib import Path
from typing import Any

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import METRICS, VERSIONS, read_json

NEEDED_METRICS = ("validation/loss", "validation/accuracy", "parameters", "best_epoch", "epochs", "seconds")
# no loss and no count is larger, and sums of larger ones overflow
_LARGEST = 1e30
_MOST_EPOCHS = 1_000_000


def finished(folder: Path) -> dict[str, Any] | None:
    """The metrics of the run in ``folder``; None where it is unfinished, or they are damaged."""
    try:
        return read_metrics(folder / METRICS)
    except (FileNotFoundError, NotADirectoryError, UserError):
        return None


def recorded_reviews(folder: Path) -> str | None:
    """The digest ``identity.reviews`` of the run in ``folder``; None where it has none."""
    try:
        found = read_json(folder / VERSIONS)["reviews"]
    except (FileNotFoundError, NotADirectoryError, UserError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None


def read_metrics(path: Path) -> dict[str, Any]:
    """What ``metrics.json`` holds. Raises UserError where a figure is missing or is none."""
    metrics = read_json(path)
    if not isinstance(metrics, dict):
        raise UserError("it must hold the figures of a run")
    for name in NEEDED_METRICS:
        if not is_figure(metrics.get(name)) or not math.isfinite(metrics[name]):
            raise UserError(f"{name} must be a finite number, got {metrics.get(name)!r}")
    if metrics["parameters"] < 1:
        raise UserError(f"parameters must be at least 1, got {metrics['parameters']}")
    for name, value in metrics.items():
        if "/" in name and not is_figure(value):
            raise UserError(f"{name} must be a number, got {value!r}")
    history = metrics.get("history", [])
    if not isinstance(history, list) or not all(
        isinstance(row, dict)
        and isinstance(row.get("epoch"), int)
        and 0 <= row["epoch"] < _MOST_EPOCHS
        and all(map(is_figure, row.values()))
        for row in history
    ):
        raise UserError("history must be a list of epochs with their figures")
    return metrics


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_figure(value: Any) -> bool:
    """Whether ``value`` is a number that can be averaged, or says that there was none."""
    return is_number(value) and not _LARGEST < abs(value) < math.inf
