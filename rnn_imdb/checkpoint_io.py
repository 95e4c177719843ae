"""How Lightning writes and reads checkpoints: whole or not at all, and without running code."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from rnn_imdb.files import write_atomically


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
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
