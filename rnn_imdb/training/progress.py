"""What a training shows while it runs: bars on standard error, and a table of its epochs."""

import math
import time
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from tqdm import tqdm

from rnn_imdb.training.module import SentimentModule


class Bars(TQDMProgressBar):
    """Lightning's bars, on standard error and in a terminal alone; they vanish when done or interrupted."""

    def __init__(self) -> None:
        # reading the loss makes a GPU wait
        super().__init__(refresh_rate=50)
        self._bars: list[Tqdm] = []

    def _open(self, description: str) -> Tqdm:
        # of several processes, one speaks for all; None means where there is no terminal
        disable = True if self.is_disabled else None
        self._bars.append(Tqdm(desc=description, unit="batch", leave=False, dynamic_ncols=True, disable=disable))
        return self._bars[-1]

    def init_train_tqdm(self) -> Tqdm:
        return self._open(self.train_description)

    def init_validation_tqdm(self) -> Tqdm:
        return self._open(self.validation_description)

    def init_test_tqdm(self) -> Tqdm:
        return self._open(self.test_description)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        assert isinstance(pl_module, SentimentModule)
        return {"loss": f"{pl_module.batch_loss.item():.3f}"}

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        for bar in self._bars:
            bar.close()


HEADER = """\
              train           validation
epoch      loss  accuracy    loss  accuracy  seconds"""


class EpochTable(L.Callback):
    """Prints, and keeps in ``rows``, the loss and accuracy of each epoch; the rows travel in checkpoints."""

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
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not self._validated:
            # Lightning still shows the figures of the last validation
            row |= dict.fromkeys(("validation/loss", "validation/accuracy"), math.nan)
        # the module logs its figures only after this, and computes them once
        assert isinstance(pl_module, SentimentModule)
        row |= pl_module.train_metrics.compute()
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
