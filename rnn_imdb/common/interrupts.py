"""Signals that ask the process to end: one exception, raised where nothing takes it for a mistake."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# from the keyboard, from a terminal that closes, from `kill`, and from a batch system before the time is up
_NAMES = ("SIGINT", "SIGQUIT", "SIGHUP", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU")
SIGNALS: tuple[signal.Signals, ...] = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
# answered even where the parent ignores them, as a shell ignores Ctrl-C for commands with `&`; `nohup` is heeded
_ALWAYS = (signal.SIGINT, signal.SIGTERM)
# seconds in which further signals are the same request: launchers pass on what the terminal sends to all
PATIENCE = 1.0

# the first signal that came, or 0; when; and how many blocks let it wait
_received = 0
_since = 0.0
_waiting = 0


class Interrupted(BaseException):
    """A signal asked the process to end.

    ``exit_code`` is what shells expect: 128 and the signal's number. ``remedy`` is the command that goes on, where it
    is another than the one that was interrupted.
    """

    remedy: str | None = None

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def check() -> None:
    """Raise :class:`Interrupted` if a signal came."""
    if _received:
        raise Interrupted(_received)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`Interrupted` at a signal within the block; a second one ends the process at once.

    The exception is raised wherever the block is, as in a download or while other processes work, but for what is
    :func:`deferred`. Only the main thread has signals: in another this does nothing, as in a block within the block.
    """
    global _received
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) == _receive:
        yield
        return
    heeded = [number for number in SIGNALS if number in _ALWAYS or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _receive) for number in heeded}
    try:
        with _answered():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received = 0


@contextmanager
def deferred() -> Iterator[None]:
    """Let a signal wait for the next :func:`check` or the end of the block.

    TensorBoard's writer shares locks with a thread of its own, and an exception within it may leave one taken. Modules
    in C take an exception within an import for a library that is missing.
    """
    global _waiting
    _waiting += 1
    try:
        with _answered():
            yield
    finally:
        _waiting -= 1


def ignore_signals() -> None:
    """Let the process end in peace: a second Ctrl-C while Python takes itself apart would leave a traceback."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _receive(number: int, _frame: FrameType | None) -> None:
    global _received, _since
    if not _received:
        _received, _since = number, time.monotonic()
        if not _waiting:
            raise Interrupted(number)
    elif time.monotonic() - _since > PATIENCE:
        os._exit(128 + _received)


@contextmanager
def _answered() -> Iterator[None]:
    """Make Interrupted the end of a block in which a signal came, also where its exception was dropped or replaced."""
    try:
        yield
    except BaseException as error:
        if _received and not isinstance(error, Interrupted):
            raise Interrupted(_received) from error
        raise
    check()
