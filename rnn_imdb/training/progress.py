"""What a training shows while it runs: bars on standard error, and a table of its epochs."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from tqdm import tqdm

from rnn_imdb.common.console import counted
from rnn_imdb.common.files import BEST
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


def best_checkpoint(trainer: L.Trainer) -> ModelCheckpoint | None:
    """The callback that writes the best checkpoint."""
    named = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]
    return next((callback for callback in named if callback.monitor and callback.filename == BEST.stem), None)


def best_epoch(rows: Sequence[Mapping[str, float]], trainer: L.Trainer) -> int | None:
    """The number of the first of the best ``rows``, from 0; None where no best checkpoint is kept."""
    if (callback := best_checkpoint(trainer)) is None:
        return None
    sign, monitor = -1 if callback.mode == "max" else 1, str(callback.monitor)
    # Lightning takes NaN for the worst
    scores = [math.inf if math.isnan(row[monitor]) else sign * row[monitor] for row in rows]
    return scores.index(min(scores))


_STOPPED = {
    EarlyStoppingReason.STOPPING_THRESHOLD: "has reached its stopping_threshold",
    EarlyStoppingReason.DIVERGENCE_THRESHOLD: "is past its divergence_threshold",
    EarlyStoppingReason.NON_FINITE_METRIC: "is not finite",
}
HEADER = """\
              train           validation
epoch      loss  accuracy    loss  accuracy  seconds"""


class EpochTable(L.Callback):
    """Prints the loss and accuracy of each epoch, and adds them to ``rows``, which hold those of the epochs before."""

    def __init__(self, rows: Sequence[dict[str, float]] = ()) -> None:
        self.rows = [*rows]
        self._started = 0.0
        self._validated = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            note = "  (* the best so far)" if best_checkpoint(trainer) else ""
            tqdm.write("\n".join([HEADER + note, *(self._line(number, trainer) for number in range(len(self.rows)))]))

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
            tqdm.write(self._line(len(self.rows) - 1, trainer))

    def _line(self, number: int, trainer: L.Trainer) -> str:
        row = self.rows[number]
        best = best_epoch(self.rows[: number + 1], trainer) == number
        return (
            f"{row['epoch'] + 1:>2}/{trainer.max_epochs:<4} {row['train/loss']:>7.4f} {row['train/accuracy']:>9.2%} "
            f"{row['validation/loss']:>7.4f} {row['validation/accuracy']:>9.2%} {row['seconds']:>8.1f}{'  *' * best}"
        )

    def why_stopped(self, trainer: L.Trainer) -> str | None:
        """Why the training ended before its last epoch; None where it did not."""
        for callback in trainer.early_stopping_callbacks:
            stopped = callback.stopping_reason_message is not None and callback.stopped_epoch == self.rows[-1]["epoch"]
            if stopped and len(self.rows) != trainer.max_epochs:
                delta = f" by more than {abs(callback.min_delta):g}" if callback.min_delta else ""
                epochs = counted(callback.wait_count * (trainer.check_val_every_n_epoch or 1), "epoch")
                reason = _STOPPED.get(
                    callback.stopping_reason,
                    f"has not {'fallen' if callback.mode == 'min' else 'risen'}{delta} for {epochs}",
                )
                return f"stopped after epoch {len(self.rows)}: {callback.monitor.replace('/', ' ')} {reason}"
        return None
