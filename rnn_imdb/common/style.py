"""How all pictures look: colours, markers, and sizes that can be read on a slide."""

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

# Okabe and Ito's colours, the first four the farthest apart, also for colour-blind readers; grey in place of yellow,
# which is too pale for lines
COLOURS = ("#0072B2", "#D55E00", "#000000", "#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#888888")
BLUE, ORANGE, *_, GREY = COLOURS
# the two classes, and what speaks for either
POSITIVE, NEGATIVE = BLUE, ORANGE
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
STYLE = {
    # a $ in a value is a $
    "text.parse_math": False,
    "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
    "image.cmap": "cividis",
    "font.size": 13,
    "axes.titlesize": 13,
    "figure.titlesize": 14,
    "legend.fontsize": 12,
    "lines.linewidth": 2,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    # in TensorBoard, and in a file
    "figure.dpi": 130,
    "savefig.dpi": 200,
    # an SVG has the same bytes each time
    "svg.hashsalt": "rnn_imdb",
}


@contextmanager
def look(*, mathematics: bool = False) -> Iterator[None]:
    """Draw in this style within the block; a text between $ may be ``mathematics``."""
    from matplotlib.style import context

    with context(STYLE | {"text.parse_math": mathematics}, after_reset=True), warnings.catch_warnings():
        # a word in a script that the font does not have becomes boxes
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def picture(draw: Callable[[], Any], kind: str = "png", *, mathematics: bool = False) -> bytes:
    """The Figure that ``draw`` makes in this style, as a file of a ``kind`` such as svg."""
    buffer = io.BytesIO()
    with look(mathematics=mathematics):
        draw().savefig(buffer, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()
