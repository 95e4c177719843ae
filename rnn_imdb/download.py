"""One verified download."""

import os
import socket
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from rnn_imdb.errors import UserError

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
