"""Figures for TensorBoard, in the style of ``rnn_imdb.plots``. Imported when first drawn: it needs matplotlib."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from torch import Tensor

from rnn_imdb.callbacks.forgetting import THRESHOLD, forgetting_curve, memory_length
from rnn_imdb.callbacks.states import ReviewStates
from rnn_imdb.plots import COLOURS

BLUE, ORANGE, *_, GREY = COLOURS
# shown below the maximum
DECADES = 8
LONGEST_WORD = 16


def draw_forgetting(norms: Tensor, *, epoch: int) -> Figure:
    """The influences (B, T) by lag on a logarithmic scale: their median, spread and mean, and the memory length."""
    curve = forgetting_curve(norms)
    length, top = memory_length(curve), float(curve.max()) or 1.0
    low, high = norms.nanquantile(norms.new_tensor([0.1, 0.9]), dim=0).numpy()
    figure = Figure(figsize=(8.0, 4.6))
    axis = figure.subplots()
    axis.fill_between(
        range(len(curve)), low, high, color=BLUE, alpha=0.15, linewidth=0, label="10 % to 90 % of reviews"
    )
    axis.plot(norms.nanmean(dim=0).numpy(), color=GREY, linewidth=0.9, label="mean")
    axis.plot(curve.numpy(), color=BLUE, linewidth=1.6, label=f"median of {len(norms):,} reviews")
    axis.axhline(
        THRESHOLD * top,
        color="black",
        linewidth=0.9,
        linestyle=":",
        label=f"{100 * THRESHOLD:g} % of the median's maximum",
    )
    axis.axvline(length, color=ORANGE, linestyle="--", label=f"memory length: {length}")
    axis.set_yscale("log")
    # the style shows a $ as it is, and matplotlib's own powers of ten are mathematics between two
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_ylim(top * 10.0**-DECADES, top * 10)
    axis.set_xlim(0, len(curve))
    axis.set_xlabel("lag k (steps after the word)")
    axis.set_ylabel("‖∂ logit / ∂ x‖ (logits per unit)")
    axis.set_title(f"Influence of a word on the decision by its lag, epoch {epoch}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def draw_states(reviews: Sequence[ReviewStates], *, epoch: int) -> Figure:
    """Heat maps of h_t, states by words, one above the other."""
    # without a review of any words there is one empty panel
    panels = max(len(reviews), 1)
    figure = Figure(figsize=(9.0, 0.6 + 3.6 * panels))
    figure.suptitle(f"States over the last words of a review, epoch {epoch}", fontsize=11)
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for axis, review in zip(axes, reviews, strict=False):
        image = axis.imshow(review.states.T, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        truth = "positive" if review.positive else "negative"
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
