"""The jobs of a sweep as a table on the terminal, the best first. Imports nothing heavy."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnn_imdb.common.console import clip, display_width, one_line, pad
from rnn_imdb.sweeps.results import ERROR_WIDTH, Job, format_value, short_names, varied

WIDTH = 80


@dataclass
class _Column:
    """A header and a cell for each job, all cut to ``width``, which may shrink to ``least``."""

    texts: list[str]
    least: int
    width: int

    def text(self, row: int) -> str:
        return pad(clip(self.texts[row], self.width, "."), self.width)


def leaderboard(jobs: Sequence[Job]) -> str:
    """The jobs in lines of at most 80 columns: by validation accuracy, then those that did not finish."""
    jobs = sorted(jobs, key=_place)
    tested = any("test/accuracy" in job.metrics for job in jobs)
    header = ["val acc", *(["test acc"] if tested else []), "best ep.", "seconds"]
    figures = [header, *(_figures(job, tested) for job in jobs)]
    widths = [max(map(len, texts)) for texts in zip(*(texts for texts in figures if len(texts) > 1), strict=True)]

    keys = varied(jobs)
    columns = [_column(name, [job.config.get(key, "") for job in jobs]) for key, name in short_names(keys).items()]
    columns = columns or [_column("run", [job.name for job in jobs])]
    dropped = _fit(columns, WIDTH - sum(widths) - 2 * len(widths))

    lines = []
    for row, texts in enumerate(figures):
        left = "  ".join(column.text(row) for column in columns)
        if row and not jobs[row - 1].config:
            room = display_width(left)
            left = pad(one_line(jobs[row - 1].name, room), room)
        # a status takes the place of all figures
        right = texts[0] if len(texts) == 1 else "  ".join(map(str.rjust, texts, widths))
        lines.append(f"{left}  {right}".rstrip())
    if dropped:
        lines.append(textwrap.fill(f"not shown, see results.csv: {', '.join(dropped)}", WIDTH))
    return "\n".join(lines)


def _place(job: Job) -> tuple[str, float, float, str]:
    status = "" if job.status == "finished" else job.status
    return status, -job.metrics.get("validation/accuracy", 0.0), job.metrics.get("validation/loss", 0.0), job.name


def _figures(job: Job, tested: bool) -> list[str]:
    if job.status != "finished":
        return [job.status]
    test = [f"{job.metrics['test/accuracy']:.2%}" if "test/accuracy" in job.metrics else ""] if tested else []
    figures = [f"{job.metrics['best_epoch']:g}", f"{job.metrics['seconds']:.0f}"]
    return [f"{job.metrics['validation/accuracy']:.2%}", *test, *figures]


def _column(header: str, values: Sequence[Any]) -> _Column:
    cells = [one_line(format_value(value), ERROR_WIDTH) for value in values]
    widest = max(map(display_width, cells))
    width = max(display_width(header), widest)
    # a number is never cut, for it would be another number; one column always fits, whatever it holds
    uncut = 0 if any(isinstance(value, str) and value for value in values) else min(widest, 20)
    return _Column([header, *cells], min(width, max(6, uncut)), width)


def _fit(columns: list[_Column], room: int) -> list[str]:
    """Narrow the widest columns to ``room``, then drop columns before the last; returns the names of those dropped."""
    dropped = []
    while sum(column.width + 2 for column in columns) - 2 > room:
        widest = max(columns, key=lambda column: (column.width > column.least, column.width))
        if widest.width > widest.least:
            widest.width -= 1
        else:
            dropped.insert(0, columns.pop(-2).texts[0])
    return dropped
