"""``python -m experiments.network``: draw the lecture's network, one-to-one beside many-to-one, into network.svg."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rnn_imdb.common.console import as_command, draw_into_files
from rnn_imdb.common.files import write_atomically
from rnn_imdb.common.style import BLUE, GREY, ORANGE, picture

draw_into_files()

# what is computed is blue, and what decides orange
PALE, INK = "#dbe9f3", "#222222"
# words of the vocabulary, tokens of a review, components of a word and of a state
V, T, E, H = 10_000, 500, 32, 32
# inches: the picture, and the heights of its rows
WIDTH, HEIGHT = 12.8, 6.0
TITLE, SUBTITLE, FLAT, CELLS, VECTORS, WORDS = 5.62, 5.17, 4.05, 2.65, 1.27, 0.45


class Canvas:
    """A figure with what the two halves are made of; all places in inches from its lower left corner."""

    def __init__(self) -> None:
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH, HEIGHT))
        self.figure.set_layout_engine("none")
        self.axis = self.figure.add_axes((0, 0, 1, 1))
        self.axis.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
        self.axis.axis("off")

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        options = {"ha": "center", "va": "center", "color": INK, "fontsize": 15} | options
        self.axis.text(x, y, text, **options)

    def box(self, x: float, y: float, width: float, text: str, colour: str, note: str = "") -> None:
        """A rounded box with bold text, and a note below it."""
        from matplotlib.patches import FancyBboxPatch

        corner, size = (x - width / 2 + 0.1, y - 0.28), (width - 0.2, 0.56)
        self.axis.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0.1", color=colour, linewidth=0))
        letters = BLUE if colour == PALE else "white"
        self.text(x, y + 0.14 * bool(note), text, color=letters, weight="bold")
        self.text(x, y - 0.17, note, color=letters, fontsize=13)

    def arrow(self, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
        shape = {"arrowstyle": "-|>,head_width=0.28,head_length=0.5", "color": colour, "linewidth": 1.7}
        self.axis.annotate("", end, start, arrowprops=shape | {"shrinkA": 0, "shrinkB": 0})

    def word(self, x: float, name: str, word: str) -> None:
        """A word, and above it the vector that it becomes."""
        self.text(x, WORDS, word, style="italic")
        for part in range(4):
            low = VECTORS - 0.36 + 0.18 * part
            self.axis.fill_between([x - 0.12, x + 0.12], low, low + 0.18, facecolor=PALE, edgecolor=INK, linewidth=1)
        self.text(x + 0.2, VECTORS, f"$x_{name}$", ha="left", fontsize=18)


def draw() -> Any:
    """The picture, a matplotlib Figure."""
    canvas = Canvas()
    canvas.axis.plot([3.7, 3.7], [0.3, 5.7], color="#d0d0d0", linewidth=1)
    _one_to_one(canvas)
    _many_to_one(canvas)
    return canvas.figure


def _one_to_one(canvas: Canvas) -> None:
    canvas.text(0.3, TITLE, "one-to-one", ha="left", fontsize=21, weight="bold")
    canvas.text(0.3, SUBTITLE, "the whole review at once", ha="left")
    middle = 1.8
    for x, name, word in ((0.65, "1", "a"), (1.5, "2", "quiet"), (2.95, "T", "gem")):
        canvas.word(x, name, word)
        for end in (-0.9, 0, 0.9):
            canvas.axis.plot([x, middle + end], [VECTORS + 0.4, CELLS - 0.4], color=GREY, linewidth=0.9)
    canvas.text(2.4, VECTORS, "…", fontsize=22)
    canvas.box(middle, CELLS, 2.7, "fully connected", GREY, f"{T} × {E} = {T * E:,} inputs")
    canvas.arrow((middle, CELLS + 0.4), (middle, FLAT - 0.42), ORANGE)
    canvas.box(middle, FLAT, 1.9, "P(positive)", ORANGE)


def _many_to_one(canvas: Canvas) -> None:
    canvas.text(4.1, TITLE, "many-to-one", ha="left", fontsize=21, weight="bold")
    canvas.text(4.1, SUBTITLE, "word by word, with the same A and b", ha="left")
    canvas.text(12.5, TITLE, r"$h_t = \tanh(A\,[h_{t-1};\,x_t] + b)$", ha="right", fontsize=21, color=BLUE)
    recurrence = H * (H + E) + H
    canvas.text(12.5, SUBTITLE, f"{H} × {H + E} + {H} = {recurrence:,} weights", ha="right", color=BLUE)
    before = 4.92
    canvas.text(before - 0.45, CELLS, "$h_0 = 0$", fontsize=18)
    for x, name, word in ((5.75, "1", "a"), (7.2, "2", "quiet"), (9.5, "T", "gem")):
        canvas.word(x, name, word)
        canvas.arrow((x, VECTORS + 0.4), (x, CELLS - 0.42))
        canvas.arrow((before, CELLS), (x - 0.5, CELLS), BLUE)
        canvas.box(x, CELLS, 0.95, "A, b", BLUE)
        before = x + 0.5
        # each state goes on to the next step, and up to the flattened ones
        canvas.arrow((x, CELLS + 0.4), (x, FLAT - 0.42), BLUE)
        canvas.text(x + 0.14, CELLS + 0.68, f"$h_{name}$", ha="left", fontsize=18)
    canvas.text(8.4, VECTORS, "…", fontsize=22)
    canvas.text(8.4, VECTORS - 0.36, f"{E} numbers", fontsize=13)
    canvas.text(8.4, WORDS, f"{T} tokens", fontsize=13)
    canvas.box(7.625, FLAT, 4.7, f"Flatten: {T} × {H} = {T * H:,} numbers", PALE)
    for y, start, name, inputs in ((FLAT, 9.98, "all states", T * H), (CELLS, before, "last state", H)):
        canvas.arrow((start, y), (10.53, y), ORANGE)
        canvas.text(11.5, y + 0.58, name, color=ORANGE, weight="bold")
        canvas.box(11.5, y, 1.9, "P(positive)", ORANGE, f"{inputs:,} + 1 weights")
    every, last = (V * E + recurrence + inputs + 1 for inputs in (T * H, H))
    total = f"with the word vectors\n{every:,} (all states)\n{last:,} (last state)"
    canvas.text(11.5, VECTORS - 0.1, total, fontsize=13, linespacing=1.5)


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.network", description="Draw the lecture's network.")
    default = Path(__file__).with_name("network.svg")
    parser.add_argument("file", nargs="?", type=Path, default=default, help="where to: .svg, .pdf, or .png at 200 dpi")
    file = parser.parse_args(arguments).file
    if file.suffix not in (".svg", ".pdf", ".png"):
        parser.error(f"the picture must end in .svg, .pdf or .png, got {file}: choose one of them")
    write_atomically(file, picture(draw, file.suffix[1:], mathematics=True))
    print(f"wrote {file}")


if __name__ == "__main__":
    main()
