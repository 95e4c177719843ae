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
