"""What a run leaves on disk: names, and files that are whole or not there. Imports nothing heavy."""

import os
import uuid
from pathlib import Path

from rnn_imdb.errors import UserError

# what a run folder holds; the metrics are written last, and say that the run is finished
CONFIG = "config.yaml"
METRICS = "metrics.json"
VERSIONS = "versions.json"
ERROR = "error.txt"
BEST = Path("checkpoints") / "best.ckpt"
LAST = Path("checkpoints") / "last.ckpt"


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


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint file at ``path``: itself, or the best one of a run folder.

    Raises:
        UserError: there is none.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if not (path / BEST).is_file():
            raise UserError(
                f"a run folder must hold {BEST}, but {path} does not: name a run that finished an epoch", exit_code=2
            )
        return path / BEST
    if not path.is_file():
        raise UserError(
            f"checkpoint must be a file or a run folder, but {path} does not exist: see experiments/runs", exit_code=2
        )
    return path
