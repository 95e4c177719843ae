"""Figures of what the callbacks measure."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from rnn_imdb.common.style import COLOURS
from rnn_imdb.insight.forgetting import THRESHOLD, forgetting_curve, memory_length, typical_curve
from rnn_imdb.insight.quality import BINS, CLASSES, Reliability
from rnn_imdb.insight.states import ReviewStates

BLUE, ORANGE, *_, GREY = COLOURS
# shown below the maximum
DECADES = 8
LONGEST_WORD = 16
# of the small square figures
DPI = 130


def draw_forgetting(norms: Tensor, epoch: int) -> Figure:
    """The influences (B, T) by lag on a logarithmic scale: mean, median and spread, with their memory lengths."""
    mean, median = forgetting_curve(norms), typical_curve(norms)
    top = float(max(mean.max(), median.max())) or 1.0
    low, high = norms.nanquantile(norms.new_tensor([0.1, 0.9]), dim=0).numpy()
    figure = Figure(figsize=(8.0, 4.6))
    axis = figure.subplots()
    axis.fill_between(range(len(mean)), low, high, color=BLUE, alpha=0.15, linewidth=0, label="10 % to 90 % of reviews")
    for curve, colour, name in ((mean, ORANGE, f"mean of {len(norms):,} reviews"), (median, BLUE, "median")):
        length = memory_length(curve)
        axis.plot(curve.numpy(), color=colour, linewidth=1.4, label=f"{name}: memory length {length}")
        # where it falls for good below the share of its maximum that counts
        axis.axvline(length, color=colour, linestyle="--", linewidth=0.9)
        axis.axhline(THRESHOLD * float(curve.max()), color=colour, linestyle=":", linewidth=0.9)
    axis.set(yscale="log", ylim=(top * 10.0**-DECADES, top * 10), xlim=(0, len(mean)))
    axis.set(xlabel="lag k (steps after the word)", ylabel="‖∂ logit / ∂ x‖ (logits per unit)")
    # the style shows a $ as it is, and matplotlib's own powers of ten are mathematics between two
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_title(f"Influence of a word on the decision by its lag, epoch {epoch}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_states(reviews: Sequence[ReviewStates], epoch: int) -> Figure:
    """Heat maps of h_t, states by words, one above the other."""
    # without a review of any words there is one empty panel
    panels = max(len(reviews), 1)
    figure = Figure(figsize=(9.0, 0.6 + 3.6 * panels))
    figure.suptitle(f"States over the last words of a review, epoch {epoch}", fontsize=11)
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for axis, review in zip(axes, reviews, strict=False):
        image = axis.imshow(review.states.T, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        truth = CLASSES[review.positive]
        axis.set_title(f"a {truth} review, P(positive) = {review.probability:.1%} at its end", fontsize=10)
        axis.set_ylabel("component of the state")
        axis.set_xticks(range(len(review.words)), [_printable(word) for word in review.words], rotation=90, fontsize=9)
        axis.grid(False)
        figure.colorbar(image, ax=axis, label="state h", fraction=0.03, pad=0.01)
    return figure


def _printable(word: str) -> str:
    """``word``, not too long, with a box for each character that the font lacks: reviews hold control characters."""
    font = get_font(findfont(FontProperties()))
    shown = "".join(letter if font.get_char_index(ord(letter)) else "\u25a1" for letter in word)
    return shown if len(shown) <= LONGEST_WORD else f"{shown[: LONGEST_WORD - 1]}…"


def draw_reliability(found: Reliability, note: str) -> Figure:
    """The share of positive reviews against P(positive), above a histogram of P(positive)."""
    figure = Figure(figsize=(4.4, 5.2), dpi=DPI)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = found.counts > 0
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
    above.plot(found.probability[filled], found.positive[filled], color=BLUE, marker="o", label="model")
    above.set_ylabel("share of positive reviews")
    below.bar((np.arange(BINS) + 0.5) / BINS, found.counts, width=0.9 / BINS, color=BLUE)
    below.set(xlim=(-0.03, 1.03), xlabel=f"P(positive), in {BINS} bins", ylabel="reviews")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.legend(loc="outside lower center", ncols=2)
    figure.suptitle(f"Reliability, {note}\nexpected calibration error {found.error:.4f}", fontsize=10)
    return figure


def draw_confusion(counts: Integer[np.ndarray, "2 2"], note: str) -> Figure:
    """Counts by class and prediction; the colour is the share of the class."""
    figure = Figure(figsize=(4.4, 4.2), dpi=DPI)
    axis = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]:,}\n{share:.1%} of {CLASSES[row]}"
        axis.text(column, row, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    axis.set_xticks(range(2), CLASSES)
    axis.set_yticks(range(2), CLASSES, rotation=90, va="center")
    axis.set(xlabel="prediction", ylabel="class")
    axis.grid(False)
    axis.spines[:].set_visible(False)
    figure.suptitle(f"Confusion, {note}\naccuracy {counts.trace() / counts.sum():.2%}", fontsize=10)
    return figure
