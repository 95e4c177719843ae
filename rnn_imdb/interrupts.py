"""Ctrl-C and SIGTERM as one exception, which nothing on the way takes for a mistake."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# seconds from an interruption that has to wait to the next look
RETRY = 0.01


class Interrupted(BaseException):
    """A signal asked the process to end. ``exit_code`` is what shells expect: 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` at SIGINT or SIGTERM within the block.

    Lightning answers a KeyboardInterrupt by ending the process with code 1, and only notes a SIGTERM. A signal that
    meets TensorBoard's writer is answered when the writer is done, with the help of SIGALRM.
    """
    waiting = 0

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal waiting
        waiting = number if _writes_events(frame) else 0
        if not waiting:
            raise Interrupted(number)
        signal.setitimer(signal.ITIMER_REAL, RETRY)

    def again(_number: int, frame: FrameType | None) -> None:
        if waiting:
            interrupt(waiting, frame)

    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, again)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if waiting:
        raise Interrupted(waiting)


def _writes_events(frame: FrameType | None) -> bool:
    """Whether TensorBoard's writer is at work in ``frame`` or below.

    It shares a queue with a thread of its own. The lock of ``with condition:`` is taken and given back within Python
    functions, so an exception there leaves it taken, and closing the writer would wait for it forever.
    """
    while frame is not None and not frame.f_globals.get("__name__", "").startswith("tensorboard."):
        frame = frame.f_back
    return frame is not None
