"""What may not be read is one line, or passed over by a search, and never a traceback."""

import ctypes
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from conftest import compose
from test_report import write_run

from rnn_imdb import report
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import CONFIG, GROWING, LAST, refuse_links
from rnn_imdb.evaluate import main as evaluate
from rnn_imdb.predict import main as predict
from rnn_imdb.training import resume
from rnn_imdb.training.checkpoint import open_checkpoint

READ_ANYTHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
Closed = Callable[..., None]


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Closed]:
    """Take the rights to a path away, also from root, until the test ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    # linux/capability.h: version 3, this thread; effective, permitted and inheritable in two words each
    header, words = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, words) == 0
    effective = words[0]
    words[0] &= ~READ_ANYTHING
    assert libc.capset(header, words) == 0
    modes: dict[Path, int] = {}

    def close(path: Path, mode: int = 0) -> None:
        modes[path] = path.stat().st_mode
        path.chmod(mode)

    yield close
    for path, mode in reversed(modes.items()):
        path.chmod(mode)
    words[0] = effective
    assert libc.capset(header, words) == 0


@contextmanager
def ending_in_a_line(capsys: pytest.CaptureFixture[str], line: str) -> Iterator[None]:
    with pytest.raises(SystemExit) as end:
        yield
    assert end.value.code in (1, 2)
    assert re.fullmatch(rf"error: .*{line}.*\n", capsys.readouterr().err)


@pytest.mark.parametrize("part", [".", GROWING, f"{GROWING}/checkpoints", f"{GROWING}/{CONFIG}", CONFIG, ".lock"])
@pytest.mark.parametrize("mode", [0o000, 0o200])
def test_auto_passes_over_a_run_that_may_not_be_read(part: str, mode: int, tmp_path: Path, closed: Closed) -> None:
    config = compose("train", "trainer.max_epochs=9")
    saved = yaml.safe_load(resume.OmegaConf.to_yaml(config, resolve=True))
    folder = write_run(tmp_path / "runs" / "b", 0.8)
    for place, epochs in ((folder, 3), (folder / GROWING, 9)):
        saved["trainer"]["max_epochs"] = epochs
        (place / LAST).parent.mkdir(parents=True, exist_ok=True)
        (place / LAST).touch()
        (place / CONFIG).write_text(yaml.safe_dump(saved))
    (folder / ".lock").touch()
    older = shutil.copytree(folder, tmp_path / "runs" / "a")
    assert resume.newest_unfinished(tmp_path / "runs", config) == folder
    closed(folder / part, mode)
    assert resume.newest_unfinished(tmp_path / "runs", config) == older


@pytest.mark.parametrize("mode", [0o000, 0o200, 0o600])
def test_folder_whose_links_nobody_sees_is_written_to_by_nobody(mode: int, tmp_path: Path, closed: Closed) -> None:
    (tmp_path / "run" / "inner").mkdir(parents=True)
    (tmp_path / "run" / "inner" / "link").symlink_to("/")
    closed(tmp_path / "run" / "inner", mode)
    with pytest.raises(UserError, match=r"must be readable and writable, but .*inner.* is not \(Permission denied\)"):
        refuse_links(tmp_path / "run")


@pytest.mark.parametrize("part", ["home", "home/sweep"])
def test_report_on_what_may_not_be_read_is_one_line(
    part: str, tmp_path: Path, closed: Closed, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "home" / "sweep" / "job", 0.8)
    closed(tmp_path / part)
    with ending_in_a_line(capsys, r"sweep (is not|cannot be read) \(Permission denied\)"):
        report.main([str(tmp_path / "home" / "sweep")])


def test_evaluate_and_predict_where_nobody_may_look_are_one_line(
    tmp_path: Path, closed: Closed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_run(tmp_path / "run", 0.8)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["evaluate", "checkpoint=."])
    closed(folder)
    with ending_in_a_line(capsys, r"must be readable and writable, but checkpoint=\. is not \(Permission denied\)"):
        evaluate()
    with ending_in_a_line(capsys, r"that may be read, but .*run is not \(Permission denied\)"):
        predict([str(folder), "a film"])
    with ending_in_a_line(capsys, r"must be given as its text, but .*review\.txt is a file or folder"):
        predict(["anything", str(folder / "review.txt")])


def test_auto_starts_nothing_anew_where_it_may_not_look(tmp_path: Path, closed: Closed) -> None:
    write_run(tmp_path / "runs" / "a", 0.8)
    closed(tmp_path / "runs", 0o300)
    with pytest.raises(UserError, match=r"that may be read, but .*runs is not \(Permission denied\): give access"):
        resume.find(compose("train", "resume=auto"), tmp_path / "runs")


def test_checkpoint_that_may_not_be_read_is_told_so(tmp_path: Path, closed: Closed) -> None:
    (tmp_path / "run.ckpt").touch()
    closed(tmp_path / "run.ckpt")
    with pytest.raises(UserError, match=r"run\.ckpt must be readable, but it is not \(Permission denied\): give"):
        open_checkpoint(tmp_path / "run.ckpt")
