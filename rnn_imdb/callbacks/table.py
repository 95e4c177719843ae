"""A line of figures for each epoch, on standard output and kept for later."""

import math
import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Checkpoint
from tqdm import tqdm

HEADER = """\
              train           validation
epoch      loss  accuracy    loss  accuracy  seconds"""


class EpochTable(Checkpoint):
    """Prints, and keeps in ``rows``, the loss and accuracy of each epoch; the rows travel in checkpoints.

    Lightning calls callbacks of the type Checkpoint after the module has logged its epoch, and others before:
    hence the base class.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._started = 0.0
        self._validated = False

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            tqdm.write("\n".join([HEADER, *(self._line(row, trainer) for row in self.rows)]))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.monotonic()
        self._validated = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        row = {name: float(value) for name, value in trainer.callback_metrics.items() if not name.endswith("_step")}
        if not self._validated:
            # Lightning still shows the figures of the last validation
            row |= dict.fromkeys(("validation/loss", "validation/accuracy"), math.nan)
        row |= {"epoch": trainer.current_epoch, "seconds": time.monotonic() - self._started}
        self.rows.append(row)
        if trainer.is_global_zero:
            tqdm.write(self._line(row, trainer))

    @staticmethod
    def _line(row: dict[str, float], trainer: L.Trainer) -> str:
        return (
            f"{row['epoch'] + 1:>2}/{trainer.max_epochs:<4}"
            f"{row['train/loss']:>8.4f}{row['train/accuracy']:>10.2%}"
            f"{row['validation/loss']:>8.4f}{row['validation/accuracy']:>10.2%}{row['seconds']:>9.1f}"
        )
