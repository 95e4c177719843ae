"""Files that are whole or not there."""

import os
import uuid
from pathlib import Path

from rnn_imdb.errors import UserError

# what a run folder holds; the metrics are written last, and say that the run is finished
CONFIG = "config.yaml"
METRICS = "metrics.json"
VERSIONS = "versions.json"
ERROR = "error.txt"


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
