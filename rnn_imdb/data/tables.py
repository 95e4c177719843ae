"""Tables of reviews, as CSV or TSV. Imports nothing heavy."""

import codecs
import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rnn_imdb.common.errors import UserError, choose
from rnn_imdb.common.files import expand
from rnn_imdb.data.reviews import Review, Source, file_digest, fold

# what begins a text and names its encoding; UTF-32's begins with UTF-16's
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
# 50,000 reviews have 66 million
MOST_BYTES = 500_000_000
# the usual names of columns, the likeliest first
TEXTS = ("review", "reviews", "text", "sentence", "content", "comment", "reviewtext", "review_text", "body")
LABELS = ("sentiment", "label", "labels", "class", "polarity", "target", "rating", "score", "stars")
HALVES = ("split", "subset", "partition")
_LABELS = {name: i for i, names in enumerate(("0 neg negative false", "1 pos positive true")) for name in names.split()}
_HALVES = {
    name: names.split()[0]
    for names in ("train training", "validation valid val dev", "test testing")
    for name in names.split()
}
_END = r"\r\n|\r|\n"


def read_text(path: Path) -> str:
    """The text of a file of reviews. Raises as :func:`decode`, or if it cannot be opened."""
    try:
        with path.open("rb") as file:
            return decode(file.read(MOST_BYTES + 1), str(path))
    except OSError as error:
        rule = f"a file of reviews must be readable, got {path} ({error.strerror})"
        raise UserError(f"{rule}: correct the path or its permissions", exit_code=2) from error


def decode(content: bytes, name: str) -> str:
    """The text in the ``content`` of a file, plain or compressed by gzip: UTF-8, or what its byte order mark says.

    Raises:
        UserError: it is no text.
    """
    try:
        if content.startswith(b"\x1f\x8b"):
            with gzip.open(io.BytesIO(content)) as file:
                content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES:,} bytes")
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"a file of reviews must be whole, but {name} {error}: get it again, or divide it") from error
    encoding = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        before, found = text.partition("\0")[0], "a NUL character" if "\0" in text else ""
    except UnicodeDecodeError as error:
        text, before = "", content[: error.start].decode(encoding, errors="replace")
        found = f"bytes {content[error.start : error.end].hex()}"
    if found:
        raise UserError(
            "a file of reviews must be text in UTF-8, or in UTF-16 with a byte order mark, but line "
            f"{len(re.findall(_END, before)) + 1} of {name} has {found}: unpack or convert it first, as with "
            "iconv -f latin1 -t utf-8"
        )
    return text


@dataclass(frozen=True)
class Table:
    """The rows of a table, each with a field for every column, and the lines on which they begin."""

    name: str
    delimiter: str
    columns: list[str]
    rows: list[list[str]]
    lines: list[int]

    def position(self, option: str, given: str | None, usual: Sequence[str]) -> int:
        """Where the column ``given``, or the first of the ``usual`` ones, stands.

        Raises:
            UserError: there is none, or several have its name.
        """
        names = [name.strip().lower() for name in self.columns]
        wanted = [given.strip().lower()] if given is not None else usual
        name = next((name for name in wanted if name in names), None)
        if name is None or names.count(name) > 1:
            raise UserError(
                f"one column of {self.name} must be called {name or ' or '.join(wanted)}, got {', '.join(self.columns)}"
                f" on line 1: correct that line, or name a column with {option}"
            )
        return names.index(name)


def parse_table(text: str, name: str) -> Table:
    """The table in the ``text`` of a file of CSV or TSV, whose first line names the columns.

    Raises:
        UserError: there is none.
    """
    lines = re.finditer(rf"[^\r\n]*(?:{_END}|\Z)", text)
    first = re.search(r"[^\r\n]*\S[^\r\n]*", text)
    delimiter = max(",\t;|", key=first.group().count) if first else ","
    csv.field_size_limit(MOST_BYTES)
    reader = csv.reader((line.group() for line in lines), delimiter=delimiter, strict=True)
    found: list[tuple[int, list[str]]] = []
    begin = 1
    try:
        for row in reader:
            # an empty line is no row
            if row:
                found.append((begin, row))
                if len(row) != len(found[0][1]):
                    raise csv.Error(f"it has {len(row)} fields, and the first has {len(found[0][1])}")
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"every row must be whole, but that on line {begin} of {name} is not ({error}): put quotes around its "
            "text, and double those within"
        ) from error
    if len(found) < 2:
        raise UserError(
            f"a table must have a line of names and rows below, but {name} has {len(found)} in all: add them"
        )
    numbers, rows = zip(*found, strict=True)
    return Table(name, delimiter, rows[0], list(rows[1:]), list(numbers[1:]))


class TableReviews(Source):
    """Reviews in a file of your own.

    Args:
        root: the file, in CSV or TSV, which may be compressed by gzip.
        text_column, label_column, split_column: names of its columns; default: the usual ones. It may have no splits.
        threshold: ratings above it are positive; default: labels are 0/1, neg/pos, negative/positive or False/True.

    Raises:
        UserError: no file was given, or it holds none.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        text_column: str | None = None,
        label_column: str | None = None,
        split_column: str | None = None,
        threshold: float | None = None,
    ) -> None:
        self.root = root
        self.columns = (text_column, label_column, split_column)
        self.threshold = threshold

    def _file(self) -> Path:
        # opening a pipe would wait for ever
        if self.root is None or not (path := expand(self.root)).is_file():
            raise UserError(f"data=csv reads a file, got data.root={self.root}: name a file that exists", exit_code=2)
        return path

    def fingerprint(self) -> str:
        return f"csv {file_digest(self._file())} {self.columns} {self.threshold}"

    def read(self) -> list[Review]:
        path = self._file()
        table = parse_table(read_text(path), str(path))
        text, label, split = self.columns
        text_at = table.position("data.text_column", text, TEXTS)
        label_at = table.position("data.label_column", label, LABELS)
        has_splits = split or {name.strip().lower() for name in table.columns} & {*HALVES}
        split_at = table.position("data.split_column", split, HALVES) if has_splits else None
        reviews = []
        for line, row in zip(table.lines, table.rows, strict=True):
            try:
                half = "train" if split_at is None else choose("a split", _HALVES, row[split_at].strip().lower())
                reviews.append(Review(_with_words(row[text_at]), self._label(row[label_at].strip().lower()), half))
            except ValueError as error:
                remedy = "" if self.threshold is not None else " (data.threshold=N makes labels of ratings)"
                raise UserError(f"{error} on line {line} of {path}: correct or remove that row{remedy}") from error
        if len({review.label for review in reviews}) < 2:
            raise UserError(
                f"reviews must be of both classes, but all {len(reviews):,} of {path} are of class "
                f"{reviews[0].label}: add others, or set data.label_column or data.threshold"
            )
        return reviews if split_at is None else _without_leaks(reviews, path)

    def _label(self, value: str) -> int:
        if self.threshold is None:
            return choose("a label", _LABELS, value)
        try:
            rating = float(value)
        except ValueError:
            rating = math.nan
        if math.isnan(rating):
            raise ValueError(f"a rating must be a number, got {value!r}")
        return int(rating > self.threshold)


def _with_words(text: str) -> str:
    if not fold(text):
        raise ValueError(f"a text must have at least one word, got {text!r}")
    return text


def _without_leaks(reviews: list[Review], path: Path) -> list[Review]:
    """``reviews`` without those whose text stands in a later split too, as the test."""
    texts = [fold(review.text) for review in reviews]
    ranks = [("train", "validation", "test").index(review.half) for review in reviews]
    last: dict[str, int] = {}
    for text, rank in zip(texts, ranks, strict=True):
        last[text] = max(rank, last.get(text, 0))
    kept = [review for review, text, rank in zip(reviews, texts, ranks, strict=True) if rank == last[text]]
    if len(kept) < len(reviews):
        print(f"left out {len(reviews) - len(kept):,} reviews of {path} whose text stands in a later split too")
    return kept
