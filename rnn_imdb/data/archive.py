"""The official reviews: an archive, packed, unpacked or downloaded."""

import gzip
import hashlib
import os
import re
import socket
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, cached_property
from http.client import HTTPException
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import expand
from rnn_imdb.data.reviews import Review, Source, file_digest, stamp

HALVES = ("train", "test")
CLASSES = ("neg", "pos")
TIMEOUT_SECONDS = 30.0


class AclImdbReviews(Source):
    """The Large Movie Review Dataset v1.0 of Maas et al. (ACL 2011).

    Its layout is ``aclImdb/{train,test}/{pos,neg}/<id>_<rating>.txt``.

    Args:
        root: a folder that holds ``aclImdb/``, the ``aclImdb`` folder itself (or one of its halves), a ``.tar.gz``
            archive of it, or an empty folder, into which the official archive is downloaded;
            default: the environment variable IMDB_ROOT, else ``data/``.
        reviews_per_class: how many reviews each of the four folders must hold.

    Raises:
        UserError: the archive or folder is damaged or incomplete, or the download fails.
    """

    URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
    copies_together = False

    def __init__(self, root: str | Path | None = None, reviews_per_class: int = 12_500) -> None:
        self._named = root or os.environ.get("IMDB_ROOT")
        self.root = expand(self._named or "data")
        self.reviews_per_class = reviews_per_class

    def fingerprint(self) -> str:
        """A digest of the archive's bytes (0.1 s for 84 MB), or of a folder's names and texts (2 s for 50,000).

        Computed once for an object, so that it does not change while the reviews are used, and once in a process for
        files that have not changed (0.3 s to see that of 50,000).
        """
        return f"aclimdb {self.reviews_per_class} {self._digest}"

    @cached_property
    def _digest(self) -> str:
        path = self._find()
        with _readable():
            if path.is_file():
                return file_digest(path)
            return _folder_digest(path, tuple((name, stamp(file)) for name, file in _entries(path)))

    def read(self) -> list[Review]:
        path = self._find()
        raw = _read_archive(path) if path.is_file() else _read_folder(path)
        reviews: dict[tuple[str, int, int], Review] = {}
        total = 4 * self.reviews_per_class
        with tqdm(raw, desc="reading reviews", total=total, unit="review", leave=False, disable=None) as bar:
            for name, content in bar:
                half, label, number = _parse(name)
                try:
                    reviews[half, label, number] = Review(content.decode(), label, half)
                except UnicodeDecodeError as error:
                    raise UserError(f"a review must be UTF-8 text, but {name} is not ({error}): replace it") from error
        counts = Counter(key[:2] for key in reviews)
        for half, label in product(HALVES, (0, 1)):
            if counts[half, label] != self.reviews_per_class:
                raise UserError(
                    f"aclImdb/{half}/{CLASSES[label]} must hold {self.reviews_per_class:,} reviews, but {path} has "
                    f"{counts[half, label]:,}: unpack or download the archive again, or set data.reviews_per_class "
                    "for a copy that is smaller on purpose"
                )
        return [reviews[key] for key in sorted(reviews)]

    def _find(self) -> Path:
        """The ``aclImdb`` folder, or an archive of it; downloads where there is nothing at all."""
        archive = self.root / "aclImdb_v1.tar.gz"
        with _readable():
            found = self._found(archive)
        if found is None:
            download(self.URL, archive, self.SHA256)
        return found or archive

    def _found(self, archive: Path) -> Path | None:
        """What is there already; None where the official archive may be downloaded."""
        root = self.root
        if root.is_file():
            return root
        if not root.is_dir():
            # none is made for a path that may be mistyped
            if self._named or os.path.lexists(root):
                raise UserError(
                    f"data.root must be a folder or an archive that exists, got {root}: correct the path; to download "
                    "the reviews, make that folder, or give neither data.root nor IMDB_ROOT for data/"
                )
            return None
        whole = root.resolve()
        half_of = [whole.parent] if whole.name in HALVES else []
        for folder in (root / "aclImdb", root, root / "aclImdb" / "aclImdb", *half_of):
            if any((folder / half / label).is_dir() for half, label in product(HALVES, CLASSES)):
                return folder
        # beside hidden files, and what a killed download left
        found = sorted(path.name for path in root.iterdir() if not path.name.startswith((".", f"{archive.name}.")))
        if found and not archive.is_file():
            raise UserError(
                f"data.root must hold aclImdb/ with train/ and test/, but {root} does not (found: "
                f"{', '.join(found[:5])}{', …' if len(found) > 5 else ''}): name the folder or the .tar.gz archive "
                "that does, or an empty folder to download it into"
            )
        return archive if found else None


_REVIEW = re.compile(r"(train|test)/(neg|pos)/(\d{1,9})_(\d{1,3})\.txt")
# the longest official review has 13,704 bytes, and the archive unpacks to 0.5 GB
MAX_REVIEW_BYTES = 1_000_000
MAX_ARCHIVE_BYTES = 2_000_000_000


def _parse(name: str) -> tuple[str, int, int]:
    """Half, label and number of the review in the file ``name``."""
    half, label, file = name.split("/")
    return half, CLASSES.index(label), int(file.partition("_")[0])


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files of reviews, by half, class and number."""
    for half, label in product(HALVES, CLASSES):
        try:
            with os.scandir(folder / half / label) as found:
                files = {f"{half}/{label}/{entry.name}": Path(entry) for entry in found if entry.is_file()}
        except OSError as error:
            raise UserError(
                f"{folder} must hold {half}/{label} ({error}): unpack the whole archive, or correct data.root"
            ) from error
        for name in sorted(filter(_REVIEW.fullmatch, files), key=_parse):
            yield name, files[name]


def _read_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    with _readable():
        for name, file in _entries(folder):
            _check_size(folder, name, file.stat().st_size)
            yield name, file.read_bytes()


@cache
def _folder_digest(folder: Path, _: tuple[tuple[str, tuple[int, ...]], ...]) -> str:
    """A digest of what a folder holds, computed again when the stamp of a file is another."""
    digest = hashlib.sha256()
    for name, content in _read_folder(folder):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Reviews straight out of the compressed stream: no member is ever written to disk."""
    try:
        # tarfile's own "r|gz" does not look at gzip's checksum
        with gzip.open(path) as file:
            stream: Any = _Bounded(file)
            archive = tarfile.TarFile(fileobj=stream)
            while (member := archive.next()) is not None:
                # tarfile would keep a million headers in memory
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] the stubs leave it out
                name = member.name.removeprefix("./").removeprefix("aclImdb/")
                # links, devices and names with ".." are passed over
                if member.isreg() and _REVIEW.fullmatch(name):
                    _check_size(path, name, member.size)
                    review = archive.extractfile(member)
                    assert review is not None, "a regular member has content"
                    yield name, review.read()
            # gzip's checksum stands at the very end
            while stream.read(MAX_REVIEW_BYTES):
                pass
    except UserError:
        raise
    # malicious headers make tarfile raise anything
    except Exception as error:
        raise UserError(
            f"{path} must be a complete .tar.gz archive of aclImdb, but reading it failed "
            f"({str(error) or type(error).__name__}): download it again, or correct data.root"
        ) from error


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_REVIEW_BYTES:
        rule = f"a review must have at most {MAX_REVIEW_BYTES:,} bytes"
        raise UserError(f"{rule}, but {name} in {path} has {size:,}: replace the file by the official one")


class _Bounded:
    """Reads ``file`` forward only, not too much at once and not beyond the size of an archive; else a ValueError.

    A header of an archive can announce any size, and send tarfile back or on for ever.
    """

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= 2 * MAX_REVIEW_BYTES:
            raise ValueError(f"a part of it announces {size} bytes")
        self.seek(self.tell())
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        if offset < self.tell():
            raise ValueError("a part of it leads back")
        if offset > MAX_ARCHIVE_BYTES:
            raise ValueError(f"it unpacks to at most {MAX_ARCHIVE_BYTES:,} bytes, but this one goes beyond")
        return self._file.seek(offset)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.root must be a folder or an archive, got one that cannot be read ({error}): correct the path or "
            "its permissions"
        ) from error


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch ``url`` to ``path``, with a progress bar; ``path`` appears only once it is whole and its sha256 is right.

    Raises:
        UserError: the server fails, stalls for 30 s or sends something else, or ``path`` cannot be written.
    """
    import torch.hub

    print(f"downloading {url} to {path}")
    # torch.hub opens the connection without a timeout of its own
    timeout = socket.getdefaulttimeout()
    made = not path.parent.exists()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, os.fspath(path), hash_prefix=sha256, progress=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise UserError(
            f"{url} could not be downloaded to {path} ({error}): try again, or download it by hand and set "
            "data.root (or IMDB_ROOT) to the file"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
        # a failed download leaves no folder behind, unless another process is at work there
        if made:
            with suppress(OSError):
                path.parent.rmdir()
