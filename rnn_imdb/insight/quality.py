"""How good the predictions of an evaluation are: curves, calibration, confusion and the worst mistakes."""

import textwrap
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.text import PAD_INDEX, Vocabulary
from rnn_imdb.insight.base import boards, last_step, show
from rnn_imdb.training.module import SentimentModule

# as many as the metric test/calibration_error has
BINS = 15
CLASSES = ("negative", "positive")
# characters in a line of a mistake's text
LINE = 80


class Quality(L.Callback):
    """Shows in TensorBoard what is behind the accuracy of each validation, and of the test (STAGE stands for either):

    - ``STAGE/precision_recall``, among the PR curves: precision and recall at 127 thresholds;
    - ``STAGE/reliability``, a plot of the share of positive reviews against the P(positive) that the model gives them,
      with the expected calibration error of :func:`reliability`;
    - ``STAGE/confusion``, a plot of counts by class and prediction;
    - ``STAGE/mistakes``, a text: the wrong predictions that the model was surest of, with the words it read.

    A validation stands at the step of its scalars. Several processes put their predictions together first. There is
    nothing to do without TensorBoard's logger.

    Args:
        mistakes: how many of the most confident mistakes to show.
        words: how many words of each, the last of those that the model read.

    Raises:
        ValueError: one of them is below 1.
    """

    def __init__(self, mistakes: int = 10, words: int = 60) -> None:
        for name, value in (("mistakes", mistakes), ("words", words)):
            if value < 1:
                raise ValueError(f"{name} must be a whole number from 1, got {value}")
        self.mistakes = mistakes
        self.words = words
        self._logits: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._logits.clear()

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any, **kwargs: Any
    ) -> None:
        self._logits.append(outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._show(trainer, "validation", trainer.val_dataloaders, last_step(trainer))

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._logits.clear()

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *batch: Any, **kwargs: Any
    ) -> None:
        self._logits.append(outputs)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, SentimentModule)
        self._show(trainer, "test", trainer.test_dataloaders, pl_module.tested_step)

    def _show(self, trainer: L.Trainer, stage: str, loader: Any, step: int) -> None:
        logits = torch.cat(self._logits).float()
        self._logits.clear()
        # which reviews these are; a limited evaluation stops before the sampler's end
        positions = torch.from_numpy(np.concatenate(list(loader.sampler))[: len(logits)]).to(logits.device)
        if trainer.world_size > 1:
            logits, positions = (torch.cat(gather_all_tensors(values)) for values in (logits, positions))
        # of logits that are no numbers there is nothing to see, and the loss says so
        if not (boards(trainer) and trainer.is_global_zero and logits.isfinite().all()):
            return
        # matplotlib takes half a second to import
        from rnn_imdb.insight.figures import draw_confusion, draw_reliability

        data: IMDBDataModule = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue] Lightning sets it
        split, rows = data.split(stage), positions.cpu().numpy()
        labels, probabilities = split.labels[rows], logits.sigmoid().cpu().numpy()
        note = f"{stage} of {len(rows):,} reviews"
        worst = worst_mistakes(logits.cpu().numpy(), labels, self.mistakes)
        table = mistakes_table(
            split.tokens[rows[worst]], labels[worst], probabilities[worst], data.vocabulary, self.words
        )
        for board in boards(trainer):
            board.add_pr_curve(f"{stage}/precision_recall", labels, probabilities, step)
            board.add_text(f"{stage}/mistakes", table, step)
        found, counts = reliability(probabilities, labels), confusion(probabilities, labels)
        show(trainer, f"{stage}/reliability", lambda: draw_reliability(found, note), step)
        show(trainer, f"{stage}/confusion", lambda: draw_confusion(counts, note), step)


@dataclass(frozen=True)
class Reliability:
    """For each of the bins of P(positive): ``counts``, mean P(positive) and share of positive reviews.

    The last two are 0 where a bin is empty. ``error`` is the expected calibration error.
    """

    counts: Int[np.ndarray, " bins"]
    probability: Float[np.ndarray, " bins"]
    positive: Float[np.ndarray, " bins"]
    error: float


def reliability(probabilities: Float[np.ndarray, " reviews"], labels: Int[np.ndarray, " reviews"]) -> Reliability:
    """The expected calibration error Σ_b n_b/N |s_b − p_b| over 15 equal bins b of P(positive), and what goes into it.

    n_b reviews have a P(positive) in [b/15, (b+1)/15), of mean p_b, and the share s_b of them is positive. (A
    probability that is rounded to 1 belongs to the last bin.) Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated
    Probabilities Using Bayesian Binning (2015).
    """
    bins = np.minimum(np.digitize(probabilities, np.linspace(0, 1, BINS + 1)) - 1, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    filled = np.maximum(counts, 1)
    probability, positive = (np.bincount(bins, values, minlength=BINS) / filled for values in (probabilities, labels))
    return Reliability(counts, probability, positive, float(counts @ abs(positive - probability) / len(labels)))


def confusion(
    probabilities: Float[np.ndarray, " reviews"], labels: Int[np.ndarray, " reviews"]
) -> Int[np.ndarray, "2 2"]:
    """Counts of reviews by class (row) and prediction (column), which is positive where P(positive) > ½."""
    return np.bincount(2 * labels + (probabilities > 0.5), minlength=4).reshape(2, 2)


def worst_mistakes(
    logits: Float[np.ndarray, " reviews"], labels: Int[np.ndarray, " reviews"], most: int
) -> Int[np.ndarray, " mistakes"]:
    """Positions of the wrong predictions with the largest |logit|, at most ``most``, the worst first."""
    wrong = np.flatnonzero((logits > 0) != labels)
    return wrong[np.argsort(-abs(logits[wrong]), kind="stable")][:most]


def mistakes_table(
    rows: Int[np.ndarray, "mistakes time"],
    labels: Int[np.ndarray, " mistakes"],
    probabilities: Float[np.ndarray, " mistakes"],
    vocabulary: Vocabulary,
    words: int,
) -> str:
    """A Markdown table of reviews: P(positive), class, and the last ``words`` of the tokens in ``rows``."""
    if not len(labels):
        return "No mistakes."
    lines = [
        f"The {len(labels)} most confident mistakes. The words are those that the model read, in lower case and with "
        f"`<unk>` for each that is not in its vocabulary; the last {words} of them.",
        "",
        "| P(positive) | class | review |",
        "|---:|---|---|",
    ]
    for row, label, probability in zip(rows, labels, probabilities, strict=True):
        read = vocabulary.decode(row[row != PAD_INDEX])
        text = f"{'… ' if len(read) > words else ''}{' '.join(read[-words:])}"
        # TensorBoard would give one long line all the width, and break the other columns up
        broken = "<br>".join(_literal(line) for line in textwrap.wrap(text, LINE))
        lines.append(f"| {probability:.2%} | {CLASSES[label]} | {broken} |")
    return "\n".join(lines)


def _literal(text: str) -> str:
    """``text`` as Markdown that shows it unchanged: a number in place of all that could have a meaning."""
    return "".join(c if c.isalnum() or c in " .,!?'…" else f"&#{ord(c)};" for c in text)
