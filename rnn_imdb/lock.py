"""One process at a time in a run folder."""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rnn_imdb.errors import UserError

LOCK = ".lock"


class Busy(UserError):
    """Another process works in the folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for the block; the lock ends with the process, however it ends.

    Raises:
        Busy: another process holds it.
    """
    try:
        # not through a link, which may stand for any file
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise UserError(
            f"the run folder {folder} cannot be written ({error}): name another with hydra.run.dir"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # the second is what some network file systems say
    except (BlockingIOError, PermissionError) as error:
        os.close(descriptor)
        raise Busy(f"one process at a time works in a run folder, but {folder} is in use: wait, or end it") from error
    except OSError as error:
        print(
            f"warning: the file system of {folder} has no locks ({error.strerror}), so nothing keeps a second process "
            "out: start none there",
            file=sys.stderr,
        )
    try:
        yield
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether another process works in ``folder``. Leaves no lock where there was none.

    Raises:
        UserError: the folder cannot be written.
    """
    if not (folder / LOCK).exists():
        return False
    try:
        with locked(folder):
            return False
    except Busy:
        return True
