"""Everything that a checkpoint needs to be used on its own, and one from the very start."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.loggers import TensorBoardLogger


class Record(L.Callback):
    """Puts ``content`` into each checkpoint under ``rnn_imdb``: tensors and plain Python values only.

    ``torch.load(weights_only=True)``, which runs no code of the file, opens such a checkpoint.

    Args:
        content: what to add.
        first: where to write a checkpoint before the first step, so that there always is one; None for nowhere.
    """

    def __init__(self, content: dict[str, Any], first: Path | None = None) -> None:
        self.content = content
        self.first = first

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.first is not None and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            trainer.save_checkpoint(self.first)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # curves are on disk before the checkpoint that they lead to, so that none has a gap after a kill
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
        checkpoint["rnn_imdb"] = self.content
