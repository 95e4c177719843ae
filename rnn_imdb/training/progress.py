"""Progress bars on standard error that cost next to nothing."""

import math
import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor
from tqdm import tqdm

from rnn_imdb.common.processes import is_leader


class Bars(L.Callback):
    """One bar for a training epoch, one for a pass over validation or test reviews; both vanish when done."""

    # reading the loss makes a GPU wait, so it is shown this often at most
    SECONDS_BETWEEN_LOSSES = 0.5

    def __init__(self) -> None:
        self._bars: list[tqdm[Any]] = []
        self._shown = 0.0

    def _open(self, description: str, batches: float) -> None:
        # of several processes, one speaks for all; None means where there is no terminal
        options: dict[str, Any] = {"leave": False, "dynamic_ncols": True, "disable": None if is_leader() else True}
        self._bars.append(tqdm(total=int(batches), desc=description, unit="batch", **options))

    def _close(self) -> None:
        if self._bars:
            self._bars.pop().close()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", trainer.num_training_batches)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        bar = self._bars[-1]
        now = time.monotonic()
        if now - self._shown > self.SECONDS_BETWEEN_LOSSES:
            self._shown = now
            loss: Tensor = outputs["loss"]
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
        bar.update()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open("validation", sum(trainer.num_val_batches))

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._bars[-1].update()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._open("test", sum(trainer.num_test_batches))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self._bars[-1].update()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        while self._bars:
            self._close()


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
