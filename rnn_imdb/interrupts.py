"""Ctrl-C and SIGTERM as one exception, which nothing on the way takes for a mistake."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """A signal asked the process to end. ``exit_code`` is what shells expect: 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` at SIGINT or SIGTERM within the block.

    Lightning answers a KeyboardInterrupt by ending the process with code 1, and only notes a SIGTERM.
    """
    before: dict[int, Any] = {number: signal.signal(number, _raise) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
