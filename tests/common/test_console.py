"""Text for terminals, and what surrounds every command: streams that fail, characters that cannot be shown."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from rnn_imdb.common.console import as_command, clip, display_width, one_line, pad, waiting
from rnn_imdb.common.errors import UserError, fail
from rnn_imdb.config.hydra import run_hydra

FULL = Path("/dev/full")
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@contextmanager
def unwritable(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """Standard output that is /dev/full, or a pipe that nobody reads."""
    if kind == "full":
        if not FULL.exists():
            pytest.skip("this system has no /dev/full")
        file = FULL.open("wb")
    else:
        theirs, ours = os.pipe()
        os.close(theirs)
        file = os.fdopen(ours, "wb")
    with io.TextIOWrapper(file, encoding="ascii") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield stream


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_stream_kept_beyond_its_command_touches_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "read.txt").write_text("unharmed")
    with io.TextIOWrapper((tmp_path / "out.txt").open("wb")) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        number = stream.fileno()
        with as_command():
            # as a logging handler keeps it
            kept = sys.stdout
            print("said")
    with (tmp_path / "read.txt").open() as other:
        assert other.fileno() == number
        kept.write("late\n")
        kept.flush()
        assert other.read() == "unharmed"
    assert (tmp_path / "out.txt").read_text() == "said\n"


@pytest.mark.parametrize("kind", ["closed", "full"])
def test_output_that_cannot_be_written_stops_no_work(
    kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    @as_command()
    def work() -> None:
        for line in range(3):
            print("a line", "x" * 10_000, flush=True)
            done.append(line)

    with unwritable(kind, monkeypatch) as stream:
        if kind == "full":
            with pytest.raises(SystemExit, match="1"):
                work()
            assert "standard output must be writable, but it is not (No space left on device)" in refused(capsys)
        else:
            work()
            assert capsys.readouterr().err == ""
        assert done == [0, 1, 2]
        assert sys.stdout is stream
        # what is written there later, as by another process, meets no error
        os.write(stream.fileno(), b"more")


@pytest.mark.parametrize(("code", "expected"), [(0, 1), (None, 1), (7, 7)])
def test_an_end_in_between_keeps_its_code_unless_output_is_lost(
    monkeypatch: pytest.MonkeyPatch, code: int | None, expected: int
) -> None:
    @as_command()
    @as_command()
    def work() -> None:
        print("usage: ...")
        raise SystemExit(code)

    with unwritable("full", monkeypatch), pytest.raises(SystemExit) as end:
        work()
    assert end.value.code == expected


def test_errors_become_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"), as_command():
        raise UserError("it must be a file,\n\tgot a \x1b[31mb\u202e\u2028c: choose another", exit_code=2)
    assert refused(capsys) == "error: it must be a file, got a  [31mb  c: choose another\n"
    with pytest.raises(SystemExit, match="130"), as_command():
        raise KeyboardInterrupt
    assert refused(capsys) == "error: interrupted\n"
    with pytest.raises(SystemExit, match="3"):
        fail("no", 3)


def test_characters_that_cannot_be_shown_are_question_marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with io.TextIOWrapper((tmp_path / "out").open("wb"), encoding="latin-1") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with as_command():
            print("café 中 \udce9")
        monkeypatch.undo()
    assert (tmp_path / "out").read_bytes() == "café ? ?\n".encode("latin-1")


@pytest.mark.parametrize("stream", [None, io.StringIO()], ids=["closed", "notebook"])
def test_streams_of_other_kinds_serve(monkeypatch: pytest.MonkeyPatch, stream: Any) -> None:
    monkeypatch.setattr(sys, "stdout", stream)
    with as_command():
        print("text 中")
        assert not sys.stdout.isatty()
    assert sys.stdout is stream
    assert stream is None or stream.getvalue() == "text 中\n"


def test_commands_end_well_whatever_reads_them() -> None:
    """At the interpreter's end, too, where Python flushes what is left; without buffers, and with ASCII alone."""
    program = (
        "from rnn_imdb.common.console import as_command\n"
        "with as_command():\n"
        "    import matplotlib\n"
        "    print('中', matplotlib.get_backend())"
    )
    odd = {"MPLBACKEND": "module://not_installed", "PYTHONIOENCODING": "ascii:strict"}
    for options in ([], ["-u"]):
        command = [sys.executable, *options, "-c", program]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | odd)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait()) == (b"", 0)
        process.stderr.close()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | odd)
    assert (done.stdout, done.stderr, done.returncode) == ("? agg\n", "", 0)


def test_one_line_keeps_to_one_line() -> None:
    assert one_line("one\ntwo\tthree\x07four", 80) == "one two three four"
    assert one_line("word " * 50, 20) == "word word word wo..."


@pytest.mark.parametrize(
    ("text", "columns", "clipped"),
    [
        ("plain", 5, "pla."),
        ("映画", 4, "映画"),
        ("映画は", 6, "映."),
        ("e\u0301le\u0301ve", 5, "e\u0301le\u0301."),
        ("\u2764\ufe0f", 1, "\u2764\ufe0f"),
        ("🎬🎬🎬", 6, "🎬."),
    ],
)
def test_columns_of_wide_characters_and_marks(text: str, columns: int, clipped: str) -> None:
    assert display_width(text) == columns
    assert clip(text, 4, ".") == clipped
    assert pad(text, 8) == text + " " * (8 - columns)
    assert display_width(one_line(text, 4)) <= 4


def exhaust_torch() -> None:
    torch.empty(10**15)


def exhaust_python() -> None:
    bytearray(10**17)


def exhaust_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize(
    ("name", "arguments", "exhaust", "remedy"),
    [
        (
            "train",
            ["data.batch_size=7"],
            exhaust_torch,
            r"allocate \d+ bytes.* smaller data\.batch_size \(7\), data\.eval.*",
        ),
        (
            "evaluate",
            ["checkpoint=run"],
            exhaust_python,
            r"\(MemoryError\): .* smaller data\.evaluation_batch_size$",
        ),
        ("evaluate", ["checkpoint=run", "data.evaluation_batch_size=9"], exhaust_gpu, r"2\.00 GiB.* smaller .* \(9\)$"),
    ],
)
def test_memory_that_ran_out_is_one_line_with_what_to_make_smaller(
    name: str,
    arguments: list[str],
    exhaust: Callable[[], None],
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as end:
        run_hydra(name, lambda _: exhaust())
    assert end.value.code == 1
    output, errors = capfd.readouterr()
    assert output == ""
    assert re.fullmatch(rf"error: memory must hold a batch and the model, but .*{remedy}", errors.strip()), errors
    # the run folder was empty
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("exhaust", [exhaust_torch, exhaust_python, exhaust_gpu])
def test_memory_that_ran_out_is_one_line_in_every_command(
    exhaust: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end, as_command():
        exhaust()
    assert end.value.code == 1
    assert re.fullmatch(r"error: memory ran out \(.+\): free some, or give less at once\n", capfd.readouterr().err)


def test_a_batch_that_no_memory_holds_ends_a_command_in_one_line(command: Command) -> None:
    done = command("benchmark", "batch_sizes=[1000000000]", "state_dims=[16]", "seconds=0.01")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"error: memory must .* smaller batch_sizes \(\[1000000000\]\), state_dims .*", last)
    assert "Traceback" not in done.stderr


def test_other_errors_of_a_command_keep_their_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmark"])
    with pytest.raises(RuntimeError, match="a defect"):
        run_hydra("benchmark", fails)


def test_terminal_says_what_takes_its_time_and_a_log_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with waiting("importing torch"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with waiting("importing torch"):
        assert "importing torch ..." in capsys.readouterr().err
    assert capsys.readouterr().err.strip() == ""
    monkeypatch.setenv("RANK", "1")
    with waiting("importing torch"):
        assert capsys.readouterr().err == ""
