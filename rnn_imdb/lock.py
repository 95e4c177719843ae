"""One process at a time in a run folder."""

import fcntl
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
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise UserError(
            f"the run folder {folder} cannot be written ({error}): name another with hydra.run.dir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"one process at a time works in a run folder, but {folder} is in use: wait, or end it"
            ) from error
        yield
