"""What a run leaves on disk: names, files that are whole or not there, and a reader that anything can be given to.

Imports nothing heavy.
"""

import csv
import io
import json
import os
import stat
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from rnn_imdb.common.errors import UserError, unusable

# what a run folder holds; the metrics are written last, and say that the run is finished
CONFIG = "config.yaml"
METRICS = "metrics.json"
VERSIONS = "versions.json"
ERROR = "error.txt"
BEST = Path("checkpoints") / "best.ckpt"
LAST = Path("checkpoints") / "last.ckpt"
# where a finished run trains on: its result stays until the longer one is there
GROWING = "growing"
# bytes of a file that is read whole: a history of 100,000 epochs has 30 million
MOST = 32_000_000
_DEEPEST = 50


def relative(path: Path) -> Path:
    """``path`` as a user in the working directory would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is never seen half written, whoever else writes it and whenever the power fails.

    Raises:
        UserError: the file cannot be written; what stood there before is untouched.
    """
    # the name differs between processes, also on different machines that share the folder
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{path} must be writable, but it is not ({error.strerror}): make room or give access there"
        ) from error


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write CSV with the keys of the first row as its header. Raises as :func:`write_atomically`."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode("utf-8", errors="replace"))


def refuse_links(folder: Path) -> None:
    """Make sure that what is written into a run folder that was there before stays in it.

    Raises:
        UserError: a link, a pipe or a device lies in it, or nobody may look.
    """

    def refuse(error: OSError) -> None:
        # another process may just have removed it
        if not isinstance(error, FileNotFoundError):
            raise UserError(unusable(error)) from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        for path in (Path(parent, name) for name in (*folders, *files)):
            try:
                mode = path.lstat().st_mode
            except OSError as error:
                refuse(error)
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(f"a run folder must hold files of its own, but {path} is a link or no file: remove it")


def read_text(path: Path, errors: str = "strict") -> str:
    """The text of a file that anybody may have put there; ``errors`` says what becomes of bytes that are none.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is no regular file (a pipe would wait for ever), may not be read, is too long or not UTF-8.
    """
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError("it must be a file, but it is a pipe or a device")
            content = file.read(MOST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"it must be readable, but it is not ({error.strerror})") from error
    if len(content) > MOST:
        raise UserError(f"it must have at most {MOST:,} bytes, but it has more")
    try:
        return content.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise UserError(f"it must be UTF-8 text, but byte {error.start} is none") from error


# libyaml's, where PyYAML was built with it
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Loader):
    """Texts, numbers, lists and dictionaries; a key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            raise UserError(f"every key must stand there once, but one of {', '.join(map(str, found))} does twice")
        return found


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file. Raises as :func:`read_text`, and where it holds what no configuration does."""
    text = read_text(path)
    try:
        depth = 0
        # read piece by piece first: libyaml's loader ends the process on deep nesting, and aliases multiply
        for event in yaml.parse(text, Loader=_PlainLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST or isinstance(event, yaml.AliasEvent):
                raise UserError(f"it must be YAML without aliases, at most {_DEEPEST} levels deep, but it is not")
        return _plain(yaml.load(text, Loader=_PlainLoader))
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UserError(f"it must be YAML, but {error}") from error


def read_json(path: Path) -> Any:
    """The plain values in a JSON file. Raises as :func:`read_text`, and where it holds other values."""
    try:
        return _plain(json.loads(read_text(path)))
    except (ValueError, RecursionError) as error:
        raise UserError(f"it must be JSON, but {error}") from error


def _plain(value: Any) -> Any:
    """``value``, if it is made of what JSON has: whole numbers of 64 bits, and texts as keys."""
    if isinstance(value, dict):
        for name, child in value.items():
            if not isinstance(name, str):
                raise UserError(f"its keys must be texts, but one is {name!r}")
            _plain(child)
    elif isinstance(value, list):
        for child in value:
            _plain(child)
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise UserError("its whole numbers must have 64 bits, but one has more")
    elif not (value is None or isinstance(value, (bool, int, float, str))):
        raise UserError(f"its values must be texts or numbers, but one is a {type(value).__name__}")
    return value


def expand(path: str | Path) -> Path:
    """``path`` with the home folder in place of a ``~`` at its beginning.

    Raises:
        UserError: nobody knows that home, or the system takes no such path.
    """
    if "\0" in os.fspath(path):
        raise UserError(f"a path must have no NUL character, got {os.fspath(path)!r}: correct it", exit_code=2)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"a path with ~ must begin with the home of a known user, got {path} ({error}): write it out", exit_code=2
        ) from error


LOCK = ".lock"


class Busy(UserError):
    """Another process works in the folder."""


def _lock(descriptor: int) -> None:
    try:
        import fcntl
    except ModuleNotFoundError:
        # Windows
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for the block; the lock ends with the process, however it ends.

    Raises:
        Busy: another process holds it.
    """
    try:
        # not through a link, which may stand for any file
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise UserError(f"{folder} cannot be written ({error}): name another folder with hydra.run.dir") from error
    try:
        _lock(descriptor)
    # the second is what some network file systems say
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise Busy(f"one process at a time works in a run folder, but {folder} is in use: wait, or end it") from error
    except OSError as error:
        print(f"warning: {folder} has no locks ({error.strerror}): start no second process there", file=sys.stderr)
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process works in ``folder``. Leaves no lock where there was none."""
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder):
            return False
    except Busy:
        return True
