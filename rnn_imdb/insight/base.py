"""What the callbacks share that look into the recurrence while it is trained."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from rnn_imdb.data.cache import Split
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.model.cell import TanhCell
from rnn_imdb.model.rnn import ReviewClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Insight(L.Callback):
    """Calls ``look`` after each validation, in the first process alone.

    What looks draws no random numbers and leaves no gradients behind, so that the trained weights are bitwise those
    of a training without it. A classifier without our recurrence is not looked at, which one line says at the start.

    Args:
        reviews: how many validation reviews are looked at.

    Raises:
        ValueError: that is no number of reviews.
    """

    def __init__(self, reviews: int) -> None:
        if reviews < 1:
            raise ValueError(f"reviews must be a whole number from 1, got {reviews}")
        self.reviews = reviews

    def look(self, trainer: L.Trainer, classifier: ReviewClassifier, data: IMDBDataModule) -> None:
        """Measure and write; the classifier is in evaluation mode, and gradients are off."""
        raise NotImplementedError

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and not isinstance(pl_module.classifier, ReviewClassifier):
            print(f"{type(self).__name__} has nothing to show: the classifier has no recurrence that it knows")

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        classifier = _recurrent(pl_module)
        if classifier is None or not trainer.is_global_zero:
            return
        # of weights that are no numbers there is nothing to see, and the validation loss says so
        if all(parameter.isfinite().all() for parameter in classifier.parameters()):
            # Lightning validates in inference mode, whose tensors can have no gradient later
            with torch.inference_mode(False), torch.no_grad():
                self.look(trainer, classifier, trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]

    def write(self, trainer: L.Trainer, scalars: dict[str, float]) -> None:
        """Write ``scalars`` to every logger."""
        for logger in trainer.loggers:
            logger.log_metrics(scalars, step=last_step(trainer))


def _recurrent(module: L.LightningModule) -> ReviewClassifier | None:
    classifier = module.classifier
    # the benchmark puts another cell into the place of ours
    return classifier if isinstance(classifier, ReviewClassifier) and isinstance(classifier.cell, TanhCell) else None


def last_step(trainer: L.Trainer) -> int:
    """The last step done: where Lightning puts the validation's figures too, and which a resumed run keeps."""
    return trainer.global_step - 1


def boards(trainer: L.Trainer) -> list[SummaryWriter]:
    """Where figures go: nowhere in a ``fast_dev_run``, or without TensorBoard."""
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def show(trainer: L.Trainer, tag: str, draw: "Callable[[], Figure]", step: int) -> None:
    """Draw for each TensorBoard."""
    # half a second to import
    from matplotlib import style

    from rnn_imdb.common.style import STYLE

    with style.context(STYLE, after_reset=True):
        for board in boards(trainer):
            board.add_figure(tag, draw(), step)


def sample(split: Split, reviews: int, device: torch.device) -> Tensor:
    """Tokens (B, T) of the first ``reviews`` reviews of a split in which the classes are mixed."""
    return to_tokens(split, np.arange(min(reviews, len(split.labels))), device)


def to_tokens(split: Split, positions: np.ndarray, device: torch.device) -> Tensor:
    """Tokens (B, T) int64 of the reviews at ``positions``."""
    return torch.from_numpy(split.tokens[positions].astype(np.int64)).to(device)
