"""What ``predict`` is given: texts, files that hold one, and the name of a picture. Imports nothing heavy."""

import codecs
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_imdb.common.errors import UserError

# some of those that matplotlib knows: the others need more programs, or are of no use
PICTURES = (".png", ".pdf", ".svg", ".jpg")
# what begins a text and names its encoding; UTF-32's begins with UTF-16's
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
# columns by which a table of reviews is known
_COLUMNS = {"review", "reviews", "text", "sentence", "comment", "sentiment", "label", "rating"}


def read_texts(texts: Sequence[str], files: Sequence[str]) -> list[str]:
    """The reviews in ``texts`` and ``files``, which must be readable; without any, standard input is one."""
    # bytes of a command line that are no UTF-8 arrive as lone surrogates
    found = [text.encode("utf-8", errors="replace").decode() for text in texts]
    found += [_read(path) for path in files]
    return found or [_read("-")]


def _read(path: str) -> str:
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"a file with a review must be readable, got {path} ({error.strerror})", exit_code=2) from error
    return decode(content, "standard input" if path == "-" else path)


def decode(content: bytes, name: str) -> str:
    """The text of the file ``name``: UTF-8, or what its byte order mark says; a table of reviews is refused."""
    encoding = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        problem = "a NUL character" if "\0" in text else ""
    except UnicodeDecodeError as error:
        text, problem = "", f"bytes {content[error.start : error.end].hex()} at {error.start:,}"
    if problem:
        raise UserError(
            f"a review must be text in UTF-8, or in UTF-16 with a byte order mark, but {name} has {problem}: unpack or "
            "convert it first, as with iconv -f latin1 -t utf-8"
        )
    if _is_table(text):
        raise UserError(f"a file must be one review, but {name} is a table of several: give each a file of its own")
    return text


def _is_table(text: str) -> bool:
    """Whether ``text`` has a header of columns and rows below it, or an object of JSON a line."""
    first, _, rest = text.strip().partition("\n")
    names = {name.strip(" \t\r\"'").lower() for name in re.split(r"[,;\t]", first)}
    if rest and len(names) > 1 and names & _COLUMNS:
        return True
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
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
    if texts > 1:
        raise UserError(f"--plot must be about one text, got {texts}: give one, or leave --plot out", exit_code=2)
    ends, folder = f"{', '.join(PICTURES[:-1])} or {PICTURES[-1]}", path.parent
    try:
        rules = (
            (path.suffix.lower() in PICTURES, f"end in {ends}, got {path}: choose one of them"),
            (path.is_file() or not path.exists(), f"be a file, got {path}, which is none: choose another name"),
            (folder.is_dir(), f"be in a folder that exists, got {path}: make {folder} first"),
            (os.access(folder, os.W_OK), f"be in a folder that can be written, got {path}: choose another"),
        )
        problem = next((remedy for holds, remedy in rules if not holds), None)
    except OSError as error:
        problem = f"be the name of a file, got {path} ({error.strerror}): choose another"
    if problem:
        raise UserError(f"--plot must {problem}", exit_code=2)
