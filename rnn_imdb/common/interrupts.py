"""Signals that ask the process to end as one exception, which nothing on the way takes for a mistake."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# from the keyboard, from a terminal that closes, from `kill`, and from a batch system before the time is up
SIGNALS = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)
# answered even where the parent ignores them, as a shell ignores Ctrl-C for commands with `&`; `nohup` is heeded
_ALWAYS = (signal.SIGINT, signal.SIGTERM)
# seconds from an interruption to the next look at what became of it
RETRY = 0.01
# seconds that an interrupted process has for its end
PATIENCE = 30


class Interrupted(BaseException):
    """A signal asked the process to end.

    ``exit_code`` is what shells expect: 128 and the signal's number. ``remedy`` is the command that goes on, where it
    is another than the one that was interrupted.
    """

    remedy: str | None = None

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` at the first of ``SIGNALS`` within the block; what follows it is ignored.

    Lightning answers a KeyboardInterrupt by ending the process with code 1, and only notes a SIGTERM. A signal that
    meets what must not be interrupted is answered later, and an exception that was dropped on its way, as by code in C
    or in a __del__, is raised again, both with the help of SIGALRM. Only the main thread has signals: in another this
    does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first, deadline = 0, math.inf

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if not first:
            first = number
            look(number, frame)

    def look(_number: int, frame: FrameType | None) -> None:
        nonlocal deadline
        signal.setitimer(signal.ITIMER_REAL, RETRY)
        if time.monotonic() > deadline:
            os._exit(128 + first)
        if not (_is_answered() or _must_finish(frame)):
            deadline = min(deadline, time.monotonic() + PATIENCE)
            raise Interrupted(first)

    def dropped(unraisable: "sys.UnraisableHookArgs") -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, dropped
    heeded = [number for number in SIGNALS if number in _ALWAYS or signal.getsignal(number) != signal.SIG_IGN]
    before: dict[int, Any] = {number: signal.signal(number, interrupt) for number in heeded}
    before[signal.SIGALRM] = signal.signal(signal.SIGALRM, look)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
    if first:
        raise Interrupted(first)


def ignore_signals() -> None:
    """Let the process end in peace: a second Ctrl-C while Python takes itself apart would leave a traceback."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_answered() -> bool:
    """Whether an :class:`Interrupted` is on its way up: what runs now is the end of something."""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


def _must_finish(frame: FrameType | None) -> bool:
    """Whether an import or TensorBoard's writer is at work in ``frame`` or below.

    The writer shares a queue with a thread of its own. The lock of ``with condition:`` is taken and given back within
    Python functions, so an exception there leaves it taken, and closing the writer would wait for it forever. Modules
    in C take an exception within an import for a library that is missing, and do without it.
    """
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(("tensorboard.", "importlib._bootstrap")):
            return True
        frame = frame.f_back
    return False
