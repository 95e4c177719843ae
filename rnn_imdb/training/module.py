"""Training, validation and test of a classifier, for Lightning's Trainer."""

import inspect
import math
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC, BinaryCalibrationError, BinaryF1Score

from rnn_imdb.common.errors import UserError
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.training.optimizers import OPTIMIZERS, make_schedule

STAGES = ("train", "validation", "test")
TRAINING_METRICS = {"accuracy": BinaryAccuracy}
EVALUATION_METRICS = {
    **TRAINING_METRICS,
    "auroc": BinaryAUROC,
    "f1": BinaryF1Score,
    "calibration_error": BinaryCalibrationError,
}
# torchmetrics calls them 0 where there is but one class
OF_TWO_CLASSES = ("auroc", "f1")


class Outputs:
    """Logits and labels of the reviews of an epoch so far, in two tensors that grow.

    A tensor kept from each batch would lie between the large ones of the steps, and their memory, torn apart, could
    not serve again: half a megabyte of fresh memory a step.
    """

    def __init__(self) -> None:
        self._values: tuple[Tensor, Tensor] | None = None
        self._count = 0

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Those of one batch, (B,) each."""
        end = self._count + len(labels)
        if self._values is None:
            self._values = logits.new_empty(len(labels)), labels.new_empty(len(labels))
        while end > len(self._values[0]):
            self._values = torch.cat([self._values[0]] * 2), torch.cat([self._values[1]] * 2)
        for values, new in zip(self._values, (logits, labels), strict=True):
            values[self._count : end] = new
        self._count = end

    def values(self) -> tuple[Tensor, Tensor]:
        """All logits and labels, (N,) each."""
        assert self._values is not None, "no batch was seen"
        logits, labels = self._values
        return logits[: self._count].float(), labels[: self._count].float()

    def clear(self) -> None:
        self._count = 0


class SentimentModule(L.LightningModule):
    """Binary cross-entropy on the logit, and metrics over whole epochs.

    Logged: ``train/loss_step`` by step; ``loss`` and ``accuracy`` of ``train``, ``validation`` and ``test`` by
    epoch, and the ``learning_rate`` of its last step; ``test`` adds AUROC, F1 (both NaN where all reviews are of one
    class) and the expected calibration error (15 bins). Training figures are those of the running epoch, each batch
    scored before its own update, as Keras shows them.

    Args:
        classifier: tokens (B, T) → logits (B,).
        optimizer: a name in ``optimizers.OPTIMIZERS``.
        learning_rate: step size, or the largest of a schedule.
        schedule: of the learning rate over the run, ``constant`` or a name in ``optimizers.SCHEDULES``.
        label_smoothing: ε of the labels y + ε (½ - y) of the loss that is trained on; no figure of an epoch has it.
            Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, Rethinking the Inception Architecture (2016).
        optimizer_options: further arguments of the optimizer.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        optimizer: str = "rmsprop",
        learning_rate: float = 0.001,
        schedule: str = "constant",
        label_smoothing: float = 0.0,
        optimizer_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.optimizer_options = optimizer_options or {}
        self._metrics: dict[str, dict[str, Metric]] = {
            stage: {
                name: kind() for name, kind in (EVALUATION_METRICS if stage == "test" else TRAINING_METRICS).items()
            }
            for stage in STAGES
        }
        # the step at which the weights that are tested were those of the training, and the figures of the test
        self.tested_step = 0
        self.tested: dict[str, float] = {}
        # of the running epochs: one update of the metrics an epoch costs less than one a batch
        self._outputs = {stage: Outputs() for stage in STAGES}

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook that it is in, 46 times a step, and torch would look at each for a parameter
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B,) of reviews (B, T)."""
        return self.classifier(tokens)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self._step("train", batch)[0]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logits (B,), which Lightning hands to the callbacks."""
        return self._step("validation", batch)[1]

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Logits (B,), which Lightning hands to the callbacks."""
        return self._step("test", batch)[1]

    def _step(self, stage: str, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The loss, and the logits (B,). ``_loss`` is the loss of all processes."""
        tokens, labels = batch
        logits = self.classifier(tokens)
        self._outputs[stage].add(logits.detach(), labels)
        if stage == "train" and self.label_smoothing:
            labels = labels + self.label_smoothing * (0.5 - labels)
        loss = F.binary_cross_entropy_with_logits(logits, labels)
        self._loss = loss.detach()
        if self.trainer.world_size > 1:
            # processes average their gradients, so each mean counts by its share of the reviews
            own = torch.stack([self._loss * len(labels), loss.new_tensor(len(labels))])
            summed, total = self.trainer.strategy.reduce(own, reduce_op="sum")
            self._loss = summed / total
            loss = loss * (len(labels) * self.trainer.world_size / total)
        return loss, logits

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        loss = self._loss.item()
        if not math.isfinite(loss):
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
            # nothing was learned before the first step
            remedy = (
                "lower optimizer.learning_rate, or set trainer.gradient_clip_val=1.0"
                if self.global_step
                else "leave model.spectral_radius and trainer.precision to their defaults"
            )
            raise UserError(
                f"the training loss must be finite, but it is {loss} at step {self.global_step} "
                f"(learning rate {optimizer.param_groups[0]['lr']:g}, gradient norm {norm.item():g}): {remedy}"
            )
        # a schedule has moved on by the end of the epoch
        self._rate = optimizer.param_groups[0]["lr"]
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            # Lightning's own way costs a millisecond
            self._write({"train/loss_step": loss, "epoch": self.current_epoch}, self.global_step)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        # what optimizer.zero_grad() does, but for its profiling
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = None

    def _write(self, figures: dict[str, float], step: int) -> None:
        """Hand figures to the loggers at once."""
        for logger in self.loggers:
            logger.log_metrics(figures, step=step)

    def on_train_epoch_start(self) -> None:
        self._outputs["train"].clear()

    def on_train_epoch_end(self) -> None:
        figures = self._log_epoch("train", logger=False)
        figures["learning_rate"] = self._rate
        # Lightning would write these only after the epoch's checkpoint, and a kill in between would lose them
        self._write(figures | {"epoch": self.current_epoch}, self.global_step - 1)

    def on_validation_epoch_start(self) -> None:
        self._outputs["validation"].clear()

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("validation")

    def on_test_epoch_start(self) -> None:
        self._outputs["test"].clear()

    def on_test_epoch_end(self) -> None:
        self.tested = self._log_epoch("test", logger=False)
        # Lightning would put them at the last step, which has other weights
        self._write(self.tested, self.tested_step)

    def _log_epoch(self, stage: str, *, logger: bool | None = None) -> dict[str, float]:
        """Compute the figures of an epoch, over all processes where there are several."""
        logits, labels = self._outputs[stage].values()
        self._outputs[stage].clear()
        losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        figures = {f"{stage}/loss": self._compute(MeanMetric(nan_strategy="disable"), losses)}
        # over all processes, which must go the same way
        both_classes = stage != "test" or 0 < self._compute(MeanMetric(), labels) < 1
        # torchmetrics guesses whether it got logits, so it is given probabilities
        for name, metric in self._metrics[stage].items():
            known = both_classes or name not in OF_TWO_CLASSES
            figures[f"{stage}/{name}"] = self._compute(metric, logits.sigmoid(), labels.int()) if known else math.nan
        self.log_dict(figures, logger=logger)
        return figures

    def _compute(self, metric: Metric, *values: Tensor) -> float:
        metric.to(self.device).update(*values)
        result = metric.compute()
        metric.reset()
        return result.item()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        kind = OPTIMIZERS[self.optimizer]
        try:
            optimizer = kind(self.parameters(), lr=self.learning_rate, **self.optimizer_options)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"the options of optimizer must be such that {kind.__name__} accepts them, but it says: {error}",
                exit_code=2,
            ) from error
        if self.schedule == "constant":
            return optimizer
        factor, steps = make_schedule(self.schedule), self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


# Lightning asks for it at every step, and Python would work it out each time
SentimentModule.training_step.__signature__ = inspect.signature(SentimentModule.training_step)  # pyright: ignore[reportFunctionMemberAccess]
