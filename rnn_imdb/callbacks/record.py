"""Everything that a checkpoint needs to be used on its own."""

from typing import Any

import lightning.pytorch as L


class Record(L.Callback):
    """Puts ``content`` into each checkpoint under ``rnn_imdb``: tensors and plain Python values only.

    ``torch.load(weights_only=True)``, which runs no code of the file, opens such a checkpoint.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["rnn_imdb"] = self.content
