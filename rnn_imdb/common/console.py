"""Text for terminals, and what every command needs around it."""

import io
import os
import signal
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EPIPE
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from rnn_imdb.common.errors import UserError, fail, is_out_of_memory, printable, unusable
from rnn_imdb.common.processes import is_leader


def display_width(text: str) -> int:
    """The columns that ``text`` takes in a terminal: two for a wide character, none for a combining mark."""
    marks = sum(unicodedata.category(c) in ("Mn", "Me") for c in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(c) in "WF" for c in text)


def clip(text: str, width: int, end: str) -> str:
    """``text`` in at most ``width`` columns; where it is cut, ``end`` says so."""
    if display_width(text) <= width:
        return text
    ends = accumulate(map(display_width, text), initial=display_width(end))
    return "".join(c for c, at in zip(text, islice(ends, 1, None), strict=True) if at <= width) + end


def pad(text: str, width: int) -> str:
    """``text`` and as many spaces as fill ``width`` columns."""
    return text + " " * (width - display_width(text))


def one_line(text: str, width: int) -> str:
    """``text`` on one line of at most ``width`` columns, without anything that a terminal would act on."""
    return clip(" ".join(printable(text[: 4 * width]).split()), width, "...")


def counted(number: int, noun: str) -> str:
    """``1 epoch``, ``2,000 epochs``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say in a terminal, in a line that vanishes, what the block does that takes its time."""
    # of several processes, one speaks for all; None means in a terminal alone
    with tqdm(desc=what, bar_format="{desc} ...", leave=False, disable=None if is_leader() else True):
        yield


def shows_colours(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that knows colours, and whose user wants them (https://no-color.org)."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def draw_into_files() -> None:
    """Keep matplotlib from windows and notebooks: MPLBACKEND may name what is not installed here."""
    os.environ["MPLBACKEND"] = "agg"


@contextmanager
def as_command() -> Iterator[None]:
    """What the main of every command runs in; it may be entered within itself.

    A :class:`UserError`, Ctrl-C, memory that ran out or a file that cannot be used ends the process by a line on
    standard error. A reader that goes away (``| head``) ends nothing: the work goes on, and what it prints is dropped.
    So it does where standard output cannot be written for another reason, which is an error at the end. A character
    that a terminal cannot show is a question mark.
    """
    draw_into_files()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _kept_open(sys.stdout, "replace"), _kept_open(sys.stderr, "backslashreplace")
    try:
        yield
        _check_delivered(sys.stdout)
    except UserError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", 128 + signal.SIGINT)
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            fail(f"memory ran out ({str(error) or type(error).__name__}): free some, or give less at once", 1)
        if not isinstance(error, OSError):
            raise
        fail(unusable(error), 1)
    except SystemExit as end:
        if not end.code:
            _check_delivered(sys.stdout)
        raise
    finally:
        for stream, given in zip((sys.stdout, sys.stderr), before, strict=True):
            stream.flush()
            if given is None:
                stream.close()
            elif stream is not given:
                # a logger may keep it, and its descriptor may be another file's by then
                _raw(stream).ended = True
        sys.stdout, sys.stderr = before


class _Outlet(io.FileIO):
    """A standard stream that drops what it cannot write, and remembers why."""

    error: OSError | None = None
    ended = False

    def write(self, content: Any) -> int | None:
        if self.ended:
            return memoryview(content).nbytes
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            # libraries and other processes that write here have no error either
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.fileno())
            os.close(nothing)
            return memoryview(content).nbytes


def _raw(stream: TextIO) -> Any:
    """What writes the bytes of ``stream``, as far as that is known."""
    buffer = getattr(stream, "buffer", None)
    # with `python -u` nothing lies in between
    return getattr(buffer, "raw", buffer)


def _kept_open(stream: TextIO | None, errors: str) -> TextIO:
    """``stream`` through an :class:`_Outlet`; a stream of another kind, as a test's or a notebook's, as it is."""
    if stream is None:
        # closed by `>&-`
        return Path(os.devnull).open("w", encoding="utf-8")
    raw = _raw(stream)
    if isinstance(raw, io.FileIO) and not isinstance(raw, _Outlet):
        stream.flush()
        return io.TextIOWrapper(
            io.BufferedWriter(_Outlet(raw.fileno(), "wb", closefd=False)),
            encoding=stream.encoding,
            errors=errors,
            line_buffering=getattr(stream, "line_buffering", True) or getattr(stream, "write_through", False),
        )
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors=errors)
    return stream


def _check_delivered(stream: TextIO) -> None:
    """End the process where the output was lost, but for a reader that went away."""
    stream.flush()
    error = getattr(_raw(stream), "error", None)
    if error is not None and error.errno != EPIPE:
        fail(f"standard output must be writable, but it is not ({error.strerror}): make room, or print elsewhere", 1)
