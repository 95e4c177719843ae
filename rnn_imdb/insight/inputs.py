"""What ``predict`` is given: texts, files that hold one, and the name of a picture. Imports nothing heavy."""

import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rnn_imdb.common.errors import UserError
from rnn_imdb.data.tables import LABELS, TEXTS, Table, decode, parse_table, read_text

# some of those that matplotlib knows: the others need more programs, or are of no use
PICTURES = (".png", ".pdf", ".svg", ".jpg")


def read_texts(texts: Sequence[str], files: Sequence[str], column: str | None = None) -> list[str] | Table:
    """The reviews in ``texts`` and ``files``, or the table that is the only file; without any, standard input is one.

    Raises:
        UserError: a file cannot be read, or there is something beside a table.
    """
    # bytes of a command line that are no UTF-8 arrive as lone surrogates
    found = [text.encode("utf-8", errors="replace").decode() for text in texts]
    for path in files or ([] if texts else ["-"]):
        name = "standard input" if path == "-" else path
        text = decode(sys.stdin.buffer.read(), name) if path == "-" else read_text(Path(path))
        if column is None and not _is_table(text, name):
            found.append(text)
        elif len(texts) + len(files) > 1:
            raise UserError(f"a table of reviews must be given alone, got {name} beside others: leave those out")
        else:
            return parse_table(text, name)
    return found


def _is_table(text: str, name: str) -> bool:
    """Whether ``text`` has a header of columns and rows below it; refuses an object of JSON a line."""
    first, _, rest = text.strip().partition("\n")
    names = {name.strip(" \t\r\"'").lower() for name in re.split(r"[,;\t]", first)}
    if rest and len(names) > 1 and names & {*TEXTS, *LABELS}:
        return True
    with suppress(ValueError, RecursionError):
        if isinstance(json.loads(first), dict):
            raise UserError(f"a file must be a review or a table of them, but {name} is JSON: make a CSV of it")
    return False


def refuse_paths(texts: Sequence[str]) -> None:
    """Refuse to judge a file by its name."""
    for text in texts:
        try:
            there = Path(text).exists()
        except PermissionError:
            # where nobody may look, a path is known by its separator
            there = os.sep in text
        except (OSError, ValueError):
            # no path at all
            continue
        if text.strip() and there:
            raise UserError(
                f"a review must be given as its text, but {text} is a file or folder: give --file {text} for what is "
                "in it (of several run folders name one)",
                exit_code=2,
            )


def check_picture(path: Path, texts: int) -> None:
    """Refuse at once a picture of several texts, or a ``path`` that cannot be written or is named as no picture."""
    try:
        writable = (path.is_file() or not path.exists()) and os.access(path.parent, os.W_OK)
    except OSError:
        # a name that is too long
        writable = False
    rules = (
        (texts <= 1, f"be about one text, got {texts}: give one, or leave --plot out"),
        (path.suffix.lower() in PICTURES, f"end in {', '.join(PICTURES)}, got {path}: choose one of them"),
        (writable, f"name a file, in a folder that can be written, got {path}: choose another"),
    )
    for holds, rule in rules:
        if not holds:
            raise UserError(f"--plot must {rule}", exit_code=2)
