"""An explanation as a picture."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnn_imdb.common.console import one_line
from rnn_imdb.common.files import write_atomically
from rnn_imdb.common.style import GREY, NEGATIVE, POSITIVE, picture
from rnn_imdb.insight.explanation import Explanation, Word
from rnn_imdb.insight.explanation_text import MOST_WORDS, notes, printable_word

# an axis has room for so many words; of more, only those that changed most are named
MOST_TICKS, MOST_NAMES, LONGEST_NAME = 48, 14, 20
# inches
LEAST_WIDTH, MOST_WIDTH, WORD_WIDTH, NAME_WIDTH = 8.0, 12.8, 0.23, 0.24


def write_plot(explanation: Explanation, title: str, path: Path) -> None:
    """Draw ``explanation`` into a file, in the format of its extension. Raises UserError where it cannot be written."""
    write_atomically(path, picture(lambda: draw(explanation, title), path.suffix[1:].lower()))


def draw(explanation: Explanation, title: str) -> Figure:
    """P(positive) as a line over the words, or attributions as bars."""
    count, named = len(explanation.words), "word of the review"
    width = min(max(LEAST_WIDTH, WORD_WIDTH * count + 1.6), MOST_WIDTH)
    figure = Figure(figsize=(width, 5.9))
    axis = figure.subplots()
    draw_values = _draw_probabilities if explanation.quantity == "probability" else _draw_attributions
    heights = draw_values(axis, explanation)
    axis.grid(visible=False, axis="x")
    if count <= MOST_TICKS:
        _name_all(axis, explanation)
        named += "; bold: those that changed most"
    else:
        _name_strongest(axis, explanation, heights, NAME_WIDTH / (width - 1) * count)
    before, within, after = notes(explanation, "at the dotted line")
    if within:
        axis.axvline(explanation.cut[0] + explanation.gap + 0.5, color=GREY, linewidth=0.8, linestyle=":")
    # about as many characters as the width holds
    axis.set_xlabel(textwrap.fill("; ".join([named, *before, *within, *after]), int(8 * width)))
    lines = textwrap.wrap(one_line(title, int(17 * width)), int(8.5 * width), max_lines=2, placeholder=" ...")
    figure.suptitle("\n".join([*lines, explanation.method]))
    return figure


def _draw_probabilities(axis: Axes, explanation: Explanation) -> np.ndarray:
    """A line from before the first word to the last, dashed over the padding behind; gives its height at each word."""
    heights = 100 * np.array([explanation.before.value, *(word.value for word in explanation.words)])
    places, end = explanation.cut[0] + np.arange(len(heights)), _end(explanation)
    for colour, side in ((POSITIVE, heights >= 50), (NEGATIVE, heights <= 50)):
        axis.fill_between(places, 50, heights, where=side, interpolate=True, color=colour, alpha=0.3, linewidth=0)
    axis.plot(places, heights, color="black", linewidth=1.6, marker="." if len(heights) <= MOST_TICKS else "")
    if explanation.after.steps:
        line = [heights[-1], 100 * explanation.after.value]
        axis.plot([places[-1], end], line, "k--", linewidth=1.6, marker=".", markevery=[1])
    axis.axhline(50, color=GREY, linewidth=1)
    margin = 0.01 * len(heights)
    axis.set(xlim=(places[0] - margin, end + margin), ylim=(0, 100), ylabel="← negative   P(positive) (%)   positive →")
    return heights[1:]


def _draw_attributions(axis: Axes, explanation: Explanation) -> np.ndarray:
    """A bar for each word; gives their upper ends."""
    heights = np.array([word.value for word in explanation.words])
    places = explanation.cut[0] + 1 + np.arange(len(heights))
    axis.bar(places, heights, color=np.where(heights > 0, POSITIVE, NEGATIVE).tolist(), width=0.9)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set(xlim=(places[0] - 0.6, places[-1] + 0.6), ylabel="← negative   part in the logit   positive →")
    return np.maximum(heights, 0)


def _end(explanation: Explanation) -> float:
    """Where the padding behind the words ends: one word further, or as far as can be seen."""
    count = len(explanation.words)
    return explanation.cut[0] + count + max(1.0, 0.03 * count) * (explanation.after.steps > 0)


def _name(word: Word) -> str:
    return one_line(printable_word(word.text), LONGEST_NAME) + ("" if word.known else " (?)")


def _name_all(axis: Axes, explanation: Explanation) -> None:
    before = explanation.cut[0]
    names: dict[float, str] = {before + place: _name(word) for place, word in enumerate(explanation.words, 1)}
    if explanation.quantity == "probability":
        names[before] = "(before)"
        if explanation.after.steps:
            names[_end(explanation)] = "(padding)"
    axis.set_xticks(list(names), list(names.values()), rotation=90, fontsize=12)
    changes = explanation.changes()
    for position in explanation.strongest(MOST_WORDS):
        colour = POSITIVE if changes[position] > 0 else NEGATIVE
        axis.get_xticklabels()[position].set(color=colour, weight="bold")


def _name_strongest(axis: Axes, explanation: Explanation, heights: np.ndarray, gap: float) -> None:
    """Names above the axis, ``gap`` words apart, with lines to their words."""
    positions = np.sort(explanation.strongest(MOST_NAMES))
    before, missing, _ = explanation.cut
    first, at = before + 1, explanation.gap
    # words stand side by side, also where some between them were never read
    axis.xaxis.set_major_formatter(lambda place, _: f"{place + missing * (place >= first + at):g}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    places = spread_out(first + positions, gap, first, first + len(heights) - 1)
    text = {"rotation": 90, "ha": "center", "va": "bottom", "fontsize": 12}
    # from the middle of the text's foot
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "relpos": (0.5, 0), "shrinkB": 0}
    for position, place in zip(positions, places, strict=True):
        name, end = _name(explanation.words[position]), (first + position, heights[position])
        axis.annotate(name, end, (place, 1.03), textcoords=axis.get_xaxis_transform(), arrowprops=line, **text)


def spread_out(places: np.ndarray, gap: float, low: float, high: float) -> np.ndarray:
    """Rising ``places`` moved as little as makes neighbours at least ``gap`` apart, between ``low`` and ``high``."""
    steps = gap * np.arange(len(places))
    right = np.maximum.accumulate(places - steps) + steps
    left = np.minimum.accumulate((places - steps)[::-1])[::-1] + steps
    # the mean, the maximum and the minimum of sequences that keep the gap keep it, too
    return np.minimum(np.maximum((left + right) / 2, low + steps), high - steps[::-1])
