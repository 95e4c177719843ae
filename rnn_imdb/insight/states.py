"""The health of the recurrence: saturated states, the spectral radius, the gradient, and the states themselves."""

from dataclasses import dataclass

import lightning.pytorch as L
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnn_imdb.data.cache import Split
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.text import PAD_INDEX
from rnn_imdb.insight.base import Insight, boards, last_step, sample, show, to_tokens
from rnn_imdb.model.cell import LinearCell
from rnn_imdb.model.initialization import spectral_radius
from rnn_imdb.model.rnn import ReviewClassifier

# beyond it tanh's slope is below a tenth
SATURATED = 0.95
# words of a review in the picture of its states
WORDS = 40


@dataclass(frozen=True)
class ReviewStates:
    """The end of a review: its last words, the states (words, H) after each, its class and what the model says."""

    words: list[str]
    states: np.ndarray
    positive: bool
    probability: float


class StateHealth(Insight):
    """Logs, under ``insight/``, after each validation

    - ``saturated``: the share of states beyond ±0.95, where a tanh hardly passes on gradients, at the steps with a
      word (not padding, also where it is a word like others: it would measure how short the reviews are), of a tanh;
    - ``spectral_radius``: max |λ| of the recurrent part of A; below 1 a linear recurrence forgets, above it explodes;
    - ``gradient_norm``: of the last training step of the epoch, before clipping, over all parameters;

    and, as figures, histograms of both parts of A and of the embedding, and ``states``: h_t over the last words of
    two short reviews, the same ones each time.

    Args:
        reviews: how many validation reviews ``saturated`` is measured on.
        figures: whether to write the figures.
    """

    def __init__(self, reviews: int = 250, *, figures: bool = True) -> None:
        super().__init__(reviews)
        self.figures = figures
        self._gradient_norm: Tensor | None = None

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        # Lightning clears gradients before it validates
        if trainer.is_last_batch:
            gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
            self._gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def look(self, trainer: L.Trainer, classifier: ReviewClassifier, data: IMDBDataModule) -> None:
        split, cell = data.split("validation"), classifier.cell
        scalars = {"insight/spectral_radius": spectral_radius(cell.recurrent_weight)}
        # the states of a linear recurrence have no bounds
        if not isinstance(cell, LinearCell):
            tokens = sample(split, self.reviews, classifier.head.weight.device)
            scalars["insight/saturated"] = saturated(_states(classifier, tokens), tokens != PAD_INDEX)
        # a validation within an epoch has none
        if self._gradient_norm is not None:
            scalars["insight/gradient_norm"] = self._gradient_norm.item()
            self._gradient_norm = None
        self.write(trainer, scalars)
        if not (self.figures and boards(trainer)):
            return
        # it imports matplotlib
        from rnn_imdb.insight.figures import draw_states

        reviews = [review_states(classifier, data, position) for position in short_reviews(split)]
        epoch = trainer.current_epoch + 1
        show(trainer, "insight/states", lambda: draw_states(reviews, epoch=epoch), last_step(trainer))
        parts = {
            "A_recurrent": cell.recurrent_weight,
            "A_input": cell.input_weight,
            "embedding": classifier.embedding.weight,
        }
        for board in boards(trainer):
            for name, weights in parts.items():
                board.add_histogram(f"insight/{name}", weights.float(), last_step(trainer))


def _states(classifier: ReviewClassifier, tokens: Tensor) -> Tensor:
    return classifier.cell(classifier.embed(tokens), classifier.mask(tokens))


def saturated(states: Float[Tensor, "batch time state"], words: Bool[Tensor, "batch time"]) -> float:
    """The share of |h| > 0.95 among the states at ``words``; 0 without any."""
    beyond = (states.abs() > SATURATED).sum(2)[words]
    return beyond.sum().item() / max(beyond.numel() * states.shape[2], 1)


def short_reviews(split: Split) -> list[int]:
    """One review of each class: the shortest with 40 words, or else the longest."""
    lengths = (split.tokens != PAD_INDEX).sum(axis=1)
    # those with 40 words first, the shortest at the front; then the others, the longest at the front
    order = np.lexsort((np.abs(lengths - WORDS), lengths < WORDS))
    found = [[int(i) for i in order if split.labels[i] == label and lengths[i] > 0] for label in (0, 1)]
    return [positions[0] for positions in found if positions]


def review_states(classifier: ReviewClassifier, data: IMDBDataModule, position: int) -> ReviewStates:
    """What the recurrence makes of the last 40 words of the validation review at ``position``."""
    split = data.split("validation")
    tokens = to_tokens(split, np.array([position]), classifier.head.weight.device)
    words = (tokens[0] != PAD_INDEX).nonzero().squeeze(1)[-WORDS:]
    return ReviewStates(
        words=data.vocabulary.decode(tokens[0, words].tolist()),
        states=_states(classifier, tokens)[0, words].detach().float().cpu().numpy(),
        positive=bool(split.labels[position]),
        probability=classifier(tokens).sigmoid().item(),
    )
