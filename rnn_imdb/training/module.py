"""Training, validation and test of a classifier, for Lightning's Trainer."""

import math
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from omegaconf import OmegaConf
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_calibration_error,
    binary_f1_score,
)
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import Self

from rnn_imdb.common.errors import UserError, choose
from rnn_imdb.data.text import PAD_INDEX
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.scan import native
from rnn_imdb.training import lean
from rnn_imdb.training.checkpoint import OWN, open_checkpoint
from rnn_imdb.training.optimizers import OPTIMIZERS, SCHEDULES
from rnn_imdb.training.saving import content_with

Batch = tuple[Tensor, Tensor]


def mean_loss(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of logits (B,) and labels (B,), a scalar in float32.

    Of logits and labels (B, T), the mean over reviews of each one's mean over the steps at which ``mask`` is True.

    Computed in float64, whose rounding hides that CPUs sum and take logarithms in different ways.
    """
    # Apple's GPUs have none
    precise = logits.float() if logits.is_mps else logits.double()
    weight = None if mask is None else mask / mask.sum(1, keepdim=True).clamp(min=1) * mask.shape[1]
    return F.binary_cross_entropy_with_logits(precise, labels.to(precise.dtype), weight).float()


def area_under_roc(logits: Tensor, labels: Tensor) -> Tensor:
    """The share of pairs of a positive and a negative review in which the positive one has the higher logit, a scalar.

    An equal logit counts half. Whole numbers are counted, so the result is the same on every machine.
    """
    positive, negative = logits[labels == 1], logits[labels == 0].sort().values
    halves = sum(torch.searchsorted(negative, positive, right=right).sum() for right in (False, True))
    return torch.as_tensor(halves / (2 * len(positive) * len(negative)))


# outputs of so many batches at most are kept apart
KEPT = 16


class EpochMetrics(Metric):
    """Figures of all reviews of an epoch, in all processes: ``STAGE/loss`` and ``STAGE/accuracy``.

    ``test`` adds AUROC and F1, both NaN where all reviews are of one class, and the expected calibration error (15
    bins). The outputs are kept and scored once: metrics that are updated with each batch take 10 % of an epoch.
    """

    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add one batch, (B,) each."""
        self.logits.append(logits.detach())
        self.labels.append(labels)
        # many small tensors, kept between the large ones of the steps, keep freed memory from being used again
        if len(self.logits) == KEPT:
            self.logits, self.labels = [torch.cat(self.logits)], [torch.cat(self.labels)]

    def compute(self) -> dict[str, float]:
        logits, labels = dim_zero_cat(self.logits).float(), dim_zero_cat(self.labels).float()
        # torchmetrics guesses whether it got logits, so it is given probabilities
        outputs = logits.sigmoid(), labels.int()
        figures = {"loss": mean_loss(logits, labels), "accuracy": binary_accuracy(*outputs)}
        if self.stage == "test":
            # torchmetrics calls them 0 where there is but one class
            both_classes = 0 < labels.mean() < 1
            unknown = logits.new_tensor(math.nan)
            figures["auroc"] = area_under_roc(logits, labels) if both_classes else unknown
            figures["f1"] = binary_f1_score(*outputs) if both_classes else unknown
            figures["calibration_error"] = binary_calibration_error(*outputs)
        return {f"{self.stage}/{name}": figure.item() for name, figure in figures.items()}


class SentimentModule(L.LightningModule):
    """Binary cross-entropy on the logit, and metrics over whole epochs.

    Logged: ``train/loss_step`` by step; the figures of ``EpochMetrics`` of ``train``, ``validation`` and ``test`` by
    epoch, and the ``learning_rate`` of its last step. Training figures are those of the running epoch, each batch
    scored before its own update, as Keras shows them.

    Args:
        classifier: tokens (B, T) → logits (B,).
        optimizer: a name in ``optimizers.OPTIMIZERS``.
        learning_rate: step size, or the largest of a schedule.
        schedule: of the learning rate over the run, ``constant`` or a name in ``optimizers.SCHEDULES``.
        label_smoothing: ε of the labels y + ε (½ - y) of the loss that is trained on; no figure of an epoch has it.
            Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, Rethinking the Inception Architecture (2016).
        target_replication: share λ of the loss (1 - λ) ℓ_T + λ mean_t ℓ_t that is trained on, where ℓ_t is the loss of
            the head applied to h_t, t goes over the words, and ℓ_T is what is decided by; for the readout ``last``
            alone. Lipton, Kale, Elkan and Wetzel, Learning to Diagnose with LSTM Recurrent Neural Networks (2016).
        optimizer_options: further arguments of the optimizer.

    >>> from rnn_imdb.model.rnn import ReviewClassifier
    >>> SentimentModule(ReviewClassifier())(torch.zeros(4, 500, dtype=torch.int64)).shape
    torch.Size([4])
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        optimizer: str = "rmsprop",
        learning_rate: float = 0.001,
        schedule: str = "constant",
        label_smoothing: float = 0.0,
        target_replication: float = 0.0,
        **optimizer_options: Any,
    ) -> None:
        super().__init__()
        self.classifier = classifier
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.label_smoothing = label_smoothing
        self.target_replication = target_replication
        self.optimizer_options = optimizer_options
        self.train_metrics = EpochMetrics("train")
        self.validation_metrics = EpochMetrics("validation")
        self.test_metrics = EpochMetrics("test")
        # what a checkpoint holds beside Lightning's own state; a run sets it, see `setup`
        self.content: dict[str, Any] = {}
        # the step at which the training had the weights that are tested
        self.tested_step = 0
        # the mean loss of the last batch, over all processes, and the learning rate of the last step
        self.batch_loss = torch.tensor(math.nan)
        self.last_learning_rate = learning_rate

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B,) of reviews (B, T)."""
        return self.classifier(tokens)

    @classmethod
    def with_group(cls, classifier: Classifier, optimizer: Mapping[str, Any]) -> Self:
        """The module of a classifier and of the group ``optimizer`` of a configuration."""
        # a checkpoint holds plain lists
        arguments: Any = OmegaConf.to_container(OmegaConf.create(dict(optimizer)))
        arguments |= arguments.pop("options", {})
        return cls(classifier, optimizer=arguments.pop("name"), **arguments)

    @classmethod
    def load_from_checkpoint(  # pyright: ignore[reportIncompatibleMethodOverride] a file is opened in one way
        cls, checkpoint_path: str | Path, map_location: Any = None, **arguments: Any
    ) -> Self:
        """The module that a checkpoint, or the best one of a run folder, holds; ``arguments`` replace what it names.

        Raises:
            UserError: it is no checkpoint of this project.
        """
        opened = open_checkpoint(checkpoint_path)
        return cls.with_group(opened.classifier().train(), opened.config["optimizer"] | arguments).to(map_location)

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.content:
            named = [name for name in signature(SentimentModule.__init__).parameters if name in vars(self)]
            optimizer = {"name": self.optimizer, **{name: getattr(self, name) for name in named}}
            optimizer |= {"options": self.optimizer_options, **self.optimizer_options}
            data = getattr(self.trainer, "datamodule", None)
            self.content = content_with(self.classifier, optimizer, data)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.content:
            checkpoint[OWN] = self.content | {"stopped": self.trainer.should_stop}

    def on_fit_start(self) -> None:
        # every step takes and frees the same large blocks
        if self.device.type == "cpu":
            native.keep_freed_memory()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        tokens, labels = batch
        running = None
        if self.target_replication:
            assert isinstance(self.classifier, ReviewClassifier), "no other encoder has states"
            running = self.classifier.running_logits(tokens)
        # a view would keep all of them until the end of the epoch
        logits = self(tokens) if running is None else running[:, -1].clone()
        self.train_metrics.update(logits, labels)
        if self.label_smoothing:
            labels = labels + self.label_smoothing * (0.5 - labels)
        loss = mean_loss(logits, labels)
        if running is not None:
            replicated = mean_loss(running, labels[:, None].expand_as(running), tokens != PAD_INDEX)
            loss = loss + self.target_replication * (replicated - loss)
        self.batch_loss = loss.detach()
        if self.trainer.world_size > 1:
            # processes average their gradients, so each mean counts by its share of the reviews
            own = torch.stack([self.batch_loss * len(labels), loss.new_tensor(len(labels))])
            summed, total = self.trainer.strategy.reduce(own, reduce_op="sum")
            self.batch_loss = summed / total
            loss = loss * (len(labels) * self.trainer.world_size / total)
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # a schedule has moved on by the end of the epoch
        self.last_learning_rate = optimizer.param_groups[0]["lr"]
        logs = (self.global_step + 1) % self.trainer.log_every_n_steps == 0  # pyright: ignore[reportAttributeAccessIssue]
        # reading a number makes a GPU wait
        if logs or self.batch_loss.is_cpu or self.trainer.is_last_batch:
            self._check_finite(self.batch_loss.item(), optimizer)
        if logs:
            figures = {"train/loss_step": self.batch_loss.item(), "epoch": self.current_epoch}
            lean.write_now(self, figures, self.global_step)

    def _check_finite(self, loss: float, optimizer: torch.optim.Optimizer) -> None:
        if math.isfinite(loss):
            return
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

    def on_train_epoch_end(self) -> None:
        figures = self._log_epoch(self.train_metrics)
        figures |= {"learning_rate": self.last_learning_rate, "epoch": self.current_epoch}
        lean.write_now(self, figures, self.global_step - 1)

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Logits (B,), which Lightning hands to the callbacks."""
        return self._evaluate(self.validation_metrics, batch)

    def on_validation_epoch_end(self) -> None:
        figures = self._log_epoch(self.validation_metrics) | {"epoch": self.current_epoch}
        lean.write_now(self, figures, self.global_step - 1)

    def test_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Logits (B,), which Lightning hands to the callbacks."""
        return self._evaluate(self.test_metrics, batch)

    def on_test_epoch_end(self) -> None:
        lean.write_now(self, self._log_epoch(self.test_metrics), self.tested_step)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """P(positive) (B,) of reviews (B, T), with or without their labels."""
        return self(batch if isinstance(batch, Tensor) else batch[0]).sigmoid()

    def _evaluate(self, metrics: EpochMetrics, batch: Batch) -> Tensor:
        tokens, labels = batch
        logits = self(tokens)
        metrics.update(logits, labels)
        return logits

    def _log_epoch(self, metrics: EpochMetrics) -> dict[str, float]:
        figures = metrics.compute()
        metrics.reset()
        self.log_dict(figures, logger=False)
        return figures

    def configure_optimizers(self) -> OptimizerLRScheduler:
        kind = choose("optimizer.name", OPTIMIZERS, self.optimizer, torch.optim.Optimizer)
        try:
            optimizer = kind(self.parameters(), lr=self.learning_rate, **self.optimizer_options)
        except (RuntimeError, TypeError, ValueError) as error:
            raise UserError(
                f"the options of optimizer must be such that {kind.__name__} accepts them, but it says: {error}",
                exit_code=2,
            ) from error
        if self.schedule == "constant":
            return optimizer
        factor, steps = choose("optimizer.schedule", SCHEDULES, self.schedule), self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
