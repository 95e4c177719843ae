"""The states of the recurrence over the words of a review."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnn_imdb.data.splits import Split
from rnn_imdb.data.text import PAD_INDEX, Vocabulary
from rnn_imdb.model.rnn import ReviewClassifier

# beyond it tanh's slope is below a tenth
SATURATED = 0.95
# words of a review in the picture of its states
WORDS = 40


@dataclass(frozen=True)
class ReviewStates:
    """The end of a review: its last words, the states (words, H) after each, its class, and P(positive) at its end.

    The components of the states are in falling order of their ``weights`` (H,) in the head, means where it has several.
    """

    words: list[str]
    states: np.ndarray
    weights: np.ndarray
    positive: bool
    probability: float


def hidden_states(classifier: ReviewClassifier, tokens: Tensor) -> Tensor:
    """h_1 .. h_T (B, T, H) of reviews (B, T)."""
    return classifier.cell(classifier.embed(tokens), classifier.mask(tokens))


def saturated(states: Float[Tensor, "batch time state"], words: Bool[Tensor, "batch time"]) -> float:
    """The share of |h| > 0.95 among the states at ``words``; 0 without any."""
    beyond = (states.abs() > SATURATED)[words]
    return beyond.sum().item() / max(beyond.numel(), 1)


def short_reviews(classifier: ReviewClassifier, split: Split, vocabulary: Vocabulary) -> list[ReviewStates]:
    """What the recurrence makes of the last 40 words of the reviews at :func:`short_positions`."""
    # a bidirectional model has the components of both directions side by side
    directions, size = 1 + (classifier.backward_cell is not None), classifier.cell.state_dim
    weights = classifier.head.weight.detach().float().view(-1, directions, size)[:, 0].mean(0).cpu().numpy()
    order, found = np.argsort(-weights), []
    for position in short_positions(split):
        row = split.tokens[position].astype(np.int64)
        tokens = torch.from_numpy(row)[None].to(classifier.head.weight.device)
        steps = np.flatnonzero(row != PAD_INDEX)[-WORDS:]
        states = hidden_states(classifier, tokens)[0, steps].detach().float().cpu().numpy()[:, order]
        probability = classifier(tokens).sigmoid().item()
        words = vocabulary.decode(row[steps].tolist())
        found.append(ReviewStates(words, states, weights[order], bool(split.labels[position]), probability))
    return found


def short_positions(split: Split) -> list[int]:
    """Positions of one review of each class: the shortest with 40 words, or else the longest."""
    lengths = (split.tokens != PAD_INDEX).sum(axis=1)
    # those with 40 words first, the shortest at the front; then the others, the longest at the front
    order = np.lexsort((np.abs(lengths - WORDS), lengths < WORDS))
    order = order[lengths[order] > 0]
    return [int(order[split.labels[order] == label][0]) for label in (0, 1) if label in split.labels[order]]
