"""How checkpoints are written and read: whole or not at all, as they were written, and without running code."""

import io
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rnn_imdb.errors import UserError
from rnn_imdb.files import write_atomically


def load(path: Path) -> Any:
    """What the checkpoint file ``path`` holds, on the CPU: plain values and tensors.

    Raises:
        UserError: it cannot be read, holds anything else, or is not as it was written.
    """
    try:
        with path.open("rb") as file:
            _verify(file, path.stat().st_size)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch and zipfile raise whatever the bytes lead them to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} must be a checkpoint of plain values and tensors, as it was written ({reason}): name one that "
            "python -m rnn_imdb.train wrote"
        ) from error


def _verify(file: IO[bytes], size: int) -> None:
    """Compare every entry of a checkpoint with its checksum, which torch does not look at. ``size`` is the file's.

    Raises:
        zipfile.BadZipFile: one does not fit, or the file is none that torch writes.
    """
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) < len(entries):
            raise zipfile.BadZipFile("it holds two entries of one name")
        # torch compresses nothing, so that no entry can be larger than the file
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise zipfile.BadZipFile("it holds compressed entries")
        if sum(entry.file_size for entry in entries) > size:
            raise zipfile.BadZipFile("its entries say that they are larger than the file")
        for entry in entries:
            with archive.open(entry) as content:
                while content.read(1 << 20):
                    pass


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint in one step: a kill or a full disk in the middle leaves the previous one whole.

    Lightning's own writes elsewhere and moves, which is not one step across file systems.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        assert storage_options is None, "a local file has no storage options"
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        return load(Path(path))
