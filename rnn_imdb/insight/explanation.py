"""A review word by word: how a model comes to its decision, and what each word says alone."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from rnn_imdb.data.cache import Encoding
from rnn_imdb.data.text import PAD_INDEX, UNKNOWN_INDEX, fit_length
from rnn_imdb.insight.forgetting import embedding_gradients
from rnn_imdb.insight.states import hidden_states
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.readout import AttentionState, LastState, MaxState, MeanMaxState, MeanState
from rnn_imdb.model.rnn import ReviewClassifier

# readouts that make of h_1 .. h_t what they make of h_1 .. h_T, so that the head has a meaning after each word
SO_FAR = {
    LastState: "h_t",
    MeanState: "the mean of h_1 .. h_t",
    MaxState: "the maxima of h_1 .. h_t",
    MeanMaxState: "mean and maxima of h_1 .. h_t",
    AttentionState: "the weighted mean of h_1 .. h_t",
}


class Word(NamedTuple):
    """A word that the model read; ``value`` is P(positive) after it or its attribution, ``number`` counts from 1."""

    text: str
    known: bool
    value: float
    number: int


class Padding(NamedTuple):
    """Padding that the model read on one side, and P(positive) after it, or the sum of its attributions."""

    steps: int
    value: float


class Explanation(NamedTuple):
    """What each word did."""

    # P(positive) after each word, or each word's part in the logit, positive for a positive review
    quantity: Literal["probability", "attribution"]
    # how they were computed, on one line
    method: str
    # those that the model read, at least one
    words: list[Word]
    # the padding on both sides; without any in front, P(positive) of the state zero
    before: Padding
    after: Padding
    # words of the review, also those that the model did not read
    total: int

    @property
    def cut(self) -> tuple[int, int, int]:
        """How many words the model did not read: before the first of ``words``, between them, and after the last."""
        first, last = self.words[0].number, self.words[-1].number
        return first - 1, last - first + 1 - len(self.words), self.total - last

    @property
    def gap(self) -> int:
        """Position of the word before which some were not read; 0 where none is missing in between."""
        first = self.words[0].number
        return next((position for position, word in enumerate(self.words) if word.number > first + position), 0)

    def changes(self) -> list[float]:
        """What each word changed: P_t - P_{t-1}, or its attribution."""
        values = [word.value for word in self.words]
        if self.quantity == "attribution":
            return values
        return [after - before for before, after in pairwise([self.before.value, *values])]

    def strongest(self, count: int) -> list[int]:
        """Positions of the ``count`` words that changed most, in falling order of the change's size."""
        changes = self.changes()
        return sorted(range(len(changes)), key=lambda position: -abs(changes[position]))[:count]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        words = [
            {"word": word.text, "number": word.number, "known": word.known, self.quantity: word.value}
            for word in self.words
        ]
        sides = {"padding_before": self.before, "padding_after": self.after}
        padding = {side: {"steps": steps, self.quantity: value} for side, (steps, value) in sides.items()}
        return {"method": self.method, "explanation": words} | padding


def explain(
    classifier: Classifier, tokens: Int64[Tensor, " time"], words: Sequence[str], numbers: Int[np.ndarray, " time"]
) -> Explanation:
    """What each word of a review did: P(positive) after it where ``SO_FAR`` has the readout, else its attribution.

    Args:
        classifier: a trained model.
        tokens: the review as the model reads it, padding included, (T,).
        words: all words of the review.
        numbers: which of them the model reads at each step, (T,), as :func:`rnn_imdb.data.text.words_at` says.
    """
    steps = (tokens != PAD_INDEX).nonzero()
    front, behind = int(steps[0]), int(steps[-1]) + 1
    if isinstance(classifier, ReviewClassifier) and _reads_forwards(classifier):
        quantity = "probability"
        method = f"P(positive) after each word: the head applied to {SO_FAR[type(classifier.readout)]}"
        probabilities = running_probabilities(classifier, tokens)
        values, before, after = probabilities[front + 1 : behind + 1], probabilities[front], probabilities[-1]
    else:
        quantity, method = "attribution", "each word's part in the logit: gradient x embedding, (dlogit/dx_t) . x_t"
        parts = attributions(classifier, tokens)
        values, before, after = parts[front:behind], parts[:front].sum(), parts[behind:].sum()
    known, padded = tokens[front:behind] != UNKNOWN_INDEX, not classifier.mask_padding
    read: list[int] = numbers[front:behind].tolist()
    texts = [words[number - 1] for number in read]
    rows = [Word(*row) for row in zip(texts, known.tolist(), values.tolist(), read, strict=True)]
    sides = Padding(front * padded, before.item()), Padding((len(tokens) - behind) * padded, after.item())
    return Explanation(quantity, method, rows, *sides, total=len(words))


def _reads_forwards(classifier: ReviewClassifier) -> bool:
    """Whether what was read so far is a review of its own to the model."""
    return classifier.backward_cell is None and type(classifier.readout) in SO_FAR


@torch.no_grad()
def running_probabilities(
    classifier: ReviewClassifier, tokens: Int64[Tensor, " time"]
) -> Float[Tensor, " time_and_one"]:
    """P_t = σ(w · readout(h_1 .. h_t) + c) for t = 0 .. T; before any step the features are zeros, as h_0 is.

    >>> running_probabilities(ReviewClassifier(), torch.ones(500, dtype=torch.int64)).shape
    torch.Size([501])
    """
    mask = classifier.mask(tokens[None])
    states = hidden_states(classifier, tokens[None])  # (1, T, H)
    features = [states.new_zeros(1, classifier.readout.features)]
    for t in range(1, len(tokens) + 1):
        features.append(classifier.readout(states[:, :t], None if mask is None else mask[:, :t]))
    return classifier.decide(torch.cat(features)).sigmoid()


def attributions(classifier: Classifier, tokens: Int64[Tensor, " time"]) -> Float[Tensor, " time"]:
    """Gradient times input, a_t = (∂logit/∂x_t) · x_t for each step, padding included.

    To first order it is what the logit would lose if the word's embedding x_t were zero; the parts do not add up to
    the logit. Simonyan, Vedaldi and Zisserman, Deep Inside Convolutional Networks (2013); Shrikumar, Greenside,
    Shcherbina and Kundaje, Not Just a Black Box (2016).
    """
    inputs, gradients = embedding_gradients(classifier, tokens[None])
    return (gradients * inputs).sum(dim=2)[0]


def polarities(
    classifier: Classifier, encoding: Encoding, words: Sequence[int], *, batch_size: int
) -> Float[np.ndarray, " words"]:
    """What each word does to the model on its own, for each index w in ``words``:

        polarity(w) = f([w]) − f([])

    f is the logit, [w] the review of the word w alone and [] the empty one, both padded to T as ``encoding`` says. A
    polarity above 0 speaks for a positive review. (Where padding follows the word and is not masked, a readout of the
    last state may have forgotten it: polarities are then near 0, which is how the model reads.)
    """
    reviews = [np.array(review, dtype=np.int64) for review in ([], *([word] for word in words))]
    rows = [fit_length(review, encoding.sequence_length, encoding.padding, encoding.truncation) for review in reviews]
    batches = torch.from_numpy(np.stack(rows)).split(batch_size)
    device = classifier.embedding.weight.device
    logits = torch.cat([classifier(batch.to(device)).cpu().double() for batch in batches])
    return (logits[1:] - logits[0]).numpy()
