"""What a review is, and what a source of reviews must tell. Imports nothing heavy."""

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


class Review(NamedTuple):
    """One labelled review: ``label`` is 1 for positive, ``half`` its part of the corpus: train, validation or test."""

    text: str
    label: int
    half: str = "train"


class Source:
    """Labelled reviews; one of your own needs no more than :meth:`read`."""

    copies_together = True
    """Whether reviews of one text stay in one split."""

    def read(self) -> list[Review]:
        """All reviews, in an order that depends on nothing but the reviews."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A text that changes when the reviews do, and not when they are moved or copied."""
        return f"{type(self).__qualname__} {hashlib.sha256(repr(self.read()).encode()).hexdigest()}"


def fold(text: str) -> str:
    """``text`` without white space and line breaks of HTML, in which copies of a review differ."""
    return "".join(_LINE_BREAK.sub("", text).split())


def stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def file_digest(path: Path) -> str:
    """The sha256 of a file; one that has not changed is read once in a process."""
    return _digest(path, stamp(path))


@cache
def _digest(path: Path, _: tuple[int, ...]) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
