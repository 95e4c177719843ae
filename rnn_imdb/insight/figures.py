"""Figures of what the callbacks measure."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Integer
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from rnn_imdb.common.console import one_line
from rnn_imdb.common.style import BLUE, GREY, NEGATIVE, ORANGE, POSITIVE
from rnn_imdb.insight.explanation_text import printable_word
from rnn_imdb.insight.forgetting import THRESHOLD, forgetting_curve, memory_length, typical_curve
from rnn_imdb.insight.quality import BINS, CLASSES, Reliability
from rnn_imdb.insight.states import ReviewStates

SIGNS = LinearSegmentedColormap.from_list("signs", [NEGATIVE, "#eeeeee", POSITIVE])
# shown below the maximum
DECADES = 8
LONGEST_WORD = 16
# components of a state that are labelled with their weight
LABELS = 9


def draw_forgetting(norms: Tensor, epoch: int) -> Figure:
    """The influences (B, T) by lag on a logarithmic scale: mean, median and spread, with their memory lengths."""
    mean, median = forgetting_curve(norms), typical_curve(norms)
    top = float(max(mean.max(), median.max())) or 1.0
    low, high = norms.nanquantile(norms.new_tensor([0.1, 0.9]), dim=0).numpy()
    figure = Figure(figsize=(9.6, 5.4))
    axis = figure.subplots()
    axis.fill_between(range(len(mean)), low, high, color=BLUE, alpha=0.2, linewidth=0, label="10 % to 90 % of reviews")
    for curve, colour, name in ((mean, ORANGE, f"mean of {len(norms):,} reviews"), (median, BLUE, "median")):
        length = memory_length(curve)
        shown = f"≥ {length}" if length == len(curve) else length
        axis.plot(curve.numpy(), color=colour, label=f"{name}: memory length {shown}")
        # where it falls for good below the share of its maximum that counts
        axis.axvline(length, color=colour, linestyle="--", linewidth=1.2)
        axis.axhline(THRESHOLD * float(curve.max()), color=colour, linestyle=":", linewidth=1.2)
    axis.set(yscale="log", ylim=(top * 10.0**-DECADES, top * 10), xlim=(0, len(mean)))
    axis.set(xlabel="lag k (steps after the word)", ylabel="‖∂ logit / ∂ x‖ (logits per unit)")
    # the style shows a $ as it is, and matplotlib's own powers of ten are mathematics between two
    axis.yaxis.set_major_formatter("{x:g}")
    below = "dashed: from here on below 1 % of the maximum (dotted)"
    axis.set_title(f"Influence of a word on the decision by its lag, epoch {epoch}\n{below}")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def draw_states(reviews: Sequence[ReviewStates], epoch: int) -> Figure:
    """Heat maps of h_t, states by words, one above the other; what speaks for a positive review is at the top."""
    # without a review of any words there is one empty panel
    panels = max(len(reviews), 1)
    figure = Figure(figsize=(11, 0.7 + 4.4 * panels))
    figure.suptitle(f"States over the last words of a review, epoch {epoch}")
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for axis, review in zip(axes, reviews, strict=False):
        image = axis.imshow(review.states.T, cmap=SIGNS, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        judged = "rightly" if (review.probability > 0.5) == review.positive else "WRONGLY"
        truth, probability = CLASSES[review.positive], f"P(positive) = {review.probability:.1%}"
        axis.set_title(f"a {truth} review, judged {judged}: {probability} at its end")
        labelled = np.linspace(0, len(review.weights) - 1, min(LABELS, len(review.weights))).round().astype(int)
        axis.set_yticks(labelled, [f"{review.weights[row]:+.2f}" for row in labelled])
        axis.set_ylabel("component of the state,\nby its weight in the head")
        names = [one_line(printable_word(word), LONGEST_WORD) for word in review.words]
        axis.set_xticks(range(len(names)), names, rotation=90, fontsize=11)
        axis.grid(False)
        figure.colorbar(image, ax=axis, label="state h", fraction=0.03, pad=0.01)
    return figure


def coloured(values: Float[np.ndarray, " words"]) -> Float[Tensor, "words rgb"]:
    """A colour from orange through grey to blue for each value, whose 95 % nearest to 0 are told apart."""
    # all are 0 where the model forgets them
    scale = np.quantile(np.abs(values), 0.95) or 1.0
    return torch.from_numpy(SIGNS(0.5 + 0.5 * values / scale)[:, :3])


def draw_reliability(found: Reliability, note: str) -> Figure:
    """The share of positive reviews against P(positive), shaded where that is too near to 0 or 1, and a histogram."""
    figure = Figure(figsize=(7, 7.4))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = found.counts > 0
    # where P(positive) is nearer to 0 or 1 than the share is
    for half, bound, label in (([0, 0.5], 1, "surer than right"), ([0.5, 1], 0, None)):
        above.fill_between(half, half, bound, color=ORANGE, alpha=0.15, linewidth=0, label=label)
    above.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
    above.plot(found.probability[filled], found.positive[filled], color=BLUE, marker="o", label="model; a dot is a bin")
    above.set_ylabel("share of positive reviews")
    below.bar((np.arange(BINS) + 0.5) / BINS, found.counts, width=0.9 / BINS, color=BLUE)
    below.set(xlim=(-0.03, 1.03), xlabel=f"P(positive), in {BINS} bins", ylabel="reviews")
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.legend(loc="outside lower center", ncols=3)
    figure.suptitle(f"Reliability, {note}\nexpected calibration error {found.error:.4f}")
    return figure


def draw_confusion(counts: Integer[np.ndarray, "2 2"], note: str) -> Figure:
    """Counts by class and prediction; the colour is the share of the class."""
    figure = Figure(figsize=(6, 5.8))
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
    figure.suptitle(f"Confusion, {note}\naccuracy {counts.trace() / counts.sum():.2%}")
    return figure
