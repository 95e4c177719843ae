"""How good predictions are: calibration, confusion and the most confident mistakes."""

import textwrap
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer

from rnn_imdb.data.text import PAD_INDEX, Vocabulary

# as many as the metric test/calibration_error has
BINS = 15
CLASSES = ("negative", "positive")
Values = Float[np.ndarray, " reviews"]
Labels = Integer[np.ndarray, " reviews"]
# characters in a line of a mistake's text
LINE = 80


@dataclass(frozen=True)
class Reliability:
    """For each bin of P(positive): ``counts``, its mean, and the share of positive reviews; 0 where a bin is empty."""

    counts: Integer[np.ndarray, " bins"]
    probability: Float[np.ndarray, " bins"]
    positive: Float[np.ndarray, " bins"]
    # the expected calibration error
    error: float


def reliability(probabilities: Values, labels: Labels) -> Reliability:
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


def confusion(probabilities: Values, labels: Labels) -> Integer[np.ndarray, "2 2"]:
    """Counts of reviews by class (row) and prediction (column), which is positive where P(positive) > ½.

    >>> confusion(np.array([0.9, 0.4, 0.2]), np.array([1, 1, 0]))
    array([[1, 0],
           [1, 1]])
    """
    return np.bincount(2 * labels + (probabilities > 0.5), minlength=4).reshape(2, 2)


def worst_mistakes(logits: Values, labels: Labels, most: int) -> Integer[np.ndarray, " mistakes"]:
    """Positions of the wrong predictions with the largest |logit|, at most ``most``, the worst first.

    >>> worst_mistakes(np.array([3.0, -1.0, -7.0]), np.array([0, 0, 1]), most=5)
    array([2, 0])
    """
    wrong = np.flatnonzero((logits > 0) != labels)
    return wrong[np.argsort(-abs(logits[wrong]), kind="stable")][:most]


def mistakes_table(
    rows: Integer[np.ndarray, "mistakes time"],
    labels: Integer[np.ndarray, " mistakes"],
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
