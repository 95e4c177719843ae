"""What a measurement prints and writes."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from rnn_imdb.common.files import write_rows
from rnn_imdb.scan import native
from rnn_imdb.training.environment import processor, versions

Row = dict[str, str | int | float]


def machine() -> str:
    """One line on versions and hardware."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    packages = ", ".join(f"{package} {number}" for package, number in versions().items())
    kernel = native.instruction_set() or "none"
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{packages}\n{processor()}, {cores}, C kernel {kernel}; {device}"


def report(rows: Sequence[Row], path: str) -> None:
    """Print ``rows`` as a table, and write them to ``path`` with a column for the machine.

    Raises:
        UserError: ``path`` cannot be written.
    """
    columns = list(rows[0])
    cells = [columns, *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = ["<" if isinstance(value, str) else ">" for value in rows[0].values()]
    for line in cells:
        print("  ".join(map("{:{}{}}".format, line, sides, widths)).rstrip())
    write_rows([{**row, "machine": machine().replace("\n", "; ")} for row in rows], Path(path))
    print(f"written to {path}")


def _text(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.1e}" if 0 < value < 1e-3 else f"{value:.2f}"
    return str(value)
