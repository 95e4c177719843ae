"""A sweep's jobs as a table on the terminal. Imports nothing heavy."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rnn_imdb.common.console import one_line
from rnn_imdb.sweeps.results import ERROR_WIDTH, Job, by_configuration, short_names, show, varied

TABLE_WIDTH = 80


@dataclass
class _Column:
    header: str
    cells: list[str]
    # a number is never cut: it would be another number
    least: int
    width: int

    def text(self, row: int | None) -> str:
        text = self.header if row is None else self.cells[row]
        return (text if len(text) <= self.width else f"{text[: self.width - 1]}.").ljust(self.width)


def table(jobs: Sequence[Job]) -> str:
    """The jobs as a table of at most 80 columns: the best validation accuracy first, those without one last."""
    finished = [job for configuration in by_configuration(jobs) for job in configuration.jobs]
    finished.sort(key=lambda job: (-job.metrics["validation/accuracy"], job.metrics["validation/loss"], job.name))
    order = finished + sorted((job for job in jobs if job.status != "finished"), key=lambda job: (job.status, job.name))
    tested = any("test/accuracy" in job.metrics for job in order)
    headers = ["val acc", *(["test acc"] if tested else []), "best ep.", "seconds"]
    figures = [_figures(job, tested) for job in order]
    widths = [max(len(texts[i]) for texts in [headers, *figures] if len(texts) > 1) for i in range(len(headers))]

    keys = varied(jobs)
    names = short_names(keys)
    columns = [_column(names[key], [job.config.get(key, "") for job in order]) for key in keys]
    columns = columns or [_column("run", [job.name for job in order])]
    dropped = _fit(columns, TABLE_WIDTH - sum(widths) - 2 * len(widths))
    room = sum(column.width + 2 for column in columns)

    lines = []
    for row, texts in [(None, headers), *enumerate(figures)]:
        left = "".join(column.text(row) + "  " for column in columns)
        if row is not None and not order[row].config:
            left = one_line(order[row].name, room - 2).ljust(room)
        # a status takes the place of all figures
        right = texts[0] if len(texts) == 1 else "  ".join(map(str.rjust, texts, widths))
        lines.append((left + right).rstrip())
    if dropped:
        lines.append(textwrap.fill(f"not shown, see results.csv: {', '.join(dropped)}", TABLE_WIDTH))
    return "\n".join(lines)


def _figures(job: Job, tested: bool) -> list[str]:
    if job.status != "finished":
        return [job.status]
    test = [f"{job.metrics['test/accuracy']:.2%}" if "test/accuracy" in job.metrics else ""] if tested else []
    figures = [f"{job.metrics['best_epoch']:g}", f"{job.metrics['seconds']:.0f}"]
    return [f"{job.metrics['validation/accuracy']:.2%}", *test, *figures]


def _column(header: str, values: Sequence[Any]) -> _Column:
    cells = [one_line(show(value), ERROR_WIDTH) for value in values]
    widest = max(map(len, cells))
    width = max(len(header), widest)
    texts = any(isinstance(value, str) and value for value in values)
    # one column always fits, whatever it holds
    return _Column(header, cells, min(width, 6 if texts else max(6, min(widest, 20))), width)


def _fit(columns: list[_Column], room: int) -> list[str]:
    """Narrow the widest columns to ``room``, then drop columns before the last; returns the names of those dropped."""
    dropped = []
    while sum(column.width + 2 for column in columns) - 2 > room:
        widest = max(columns, key=lambda column: (column.width > column.least, column.width))
        if widest.width > widest.least:
            widest.width -= 1
        else:
            dropped.insert(0, columns.pop(-2).header)
    return dropped
