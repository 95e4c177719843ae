"""Text for terminals."""

import os
import sys
from typing import TextIO


def one_line(text: str, width: int) -> str:
    """``text`` on one line of at most ``width`` characters, without anything that a terminal would act on."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * width]).split())
    return line if len(line) <= width else line[: width - 3] + "..."


def shows_colours(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that knows colours, and whose user wants them (https://no-color.org)."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def print_whole(text: str) -> None:
    """Print ``text``, or as much of it as the reader at the other end of a pipe wants."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
