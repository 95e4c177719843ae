"""Signals that ask a process to end: one exception, wherever they come."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from rnn_imdb.common import interrupts
from rnn_imdb.common.interrupts import Interrupted, check, deferred, interruptible


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_signals_are_one_exception_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=number.name) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.exit_code == 128 + number
    assert signal.getsignal(number) is before
    check()


def test_signals_of_one_request_do_not_disturb_the_end() -> None:
    ended = []

    @interruptible()
    def interrupted_often() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            for number in interrupts.SIGNALS:
                signal.raise_signal(number)
                ended.append(number)

    with pytest.raises(Interrupted, match="SIGTERM"):
        interrupted_often()
    assert ended == list(interrupts.SIGNALS)


def test_second_request_ends_at_once_what_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "PATIENCE", 0.0)
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)

    @interruptible()
    @deferred()
    def hangs() -> None:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.01)
        assert not ended
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(Interrupted, match="SIGTERM"):
        hangs()
    assert ended == [128 + signal.SIGTERM]


def test_signal_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_has_no_signals() -> None:
    entered = []

    def enter() -> None:
        with interruptible():
            entered.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGTERM)]


def test_signal_that_is_deferred_waits_for_a_check_or_the_end_of_the_block() -> None:
    done = []

    @interruptible()
    def interrupted(checking: bool) -> None:
        with deferred():
            signal.raise_signal(signal.SIGINT)
            done.append("went on")
            if checking:
                check()
            done.append("to the end")
        done.append("and further")

    for checking, expected in ((True, ["went on"]), (False, ["went on", "to the end"])):
        done.clear()
        with pytest.raises(Interrupted, match="SIGINT"):
            interrupted(checking)
        assert done == expected


def test_signal_within_an_import_waits_until_the_module_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ("import signal", "try: signal.raise_signal(signal.SIGTERM)", "except BaseException: pass", "whole = True")
    (tmp_path / "imported_slowly.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Interrupted, match="SIGTERM"), interruptible(), deferred():
        import_module("imported_slowly")
    assert sys.modules.pop("imported_slowly").whole


def drop() -> None:
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)


def replace() -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    except BaseException as error:
        raise ImportError("a library is missing") from error


def fail_while_it_waits() -> None:
    with deferred():
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("the connection was closed by the other process, which was interrupted too")


@pytest.mark.parametrize("lose", [drop, replace, fail_while_it_waits])
def test_signal_that_is_lost_on_its_way_is_how_the_block_ends(lose: Callable[[], None]) -> None:
    with pytest.raises(Interrupted, match="SIGTERM"), interruptible():
        lose()
