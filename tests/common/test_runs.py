"""What the commands take for a run: a path, latest, or the beginning of one run's name."""

import os
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
from test_report import write_run

from rnn_imdb import report
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, CONFIG
from rnn_imdb.common.runs import RUNS, find_checkpoint, find_run, short_name

# oldest first
NAMES = ("2026-11-25_12-58-35-803980_last", "2026-11-25_14-03-07", "2026-11-25_14-03-07_seed-1", "capacity/seed-0-abc")
NAMES += ("capacity_2/seed-0-abc", "capacity_2/seed-1-def")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of one and of two sweeps, and what is none."""
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(NAMES):
        write_run(RUNS / name, 0.8)
        os.utime(RUNS / name / CONFIG, (age, age))
    write_run(RUNS / NAMES[0] / "growing", 0.8)
    (RUNS / "2026-empty").mkdir()
    (RUNS / "2026-notes.txt").touch()
    return RUNS


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("latest", NAMES[-1]),
        ("2026-11-25_12", NAMES[0]),
        ("2026-11-25_14-03-07", NAMES[1]),
        ("2026-11-25_14-03-07_", NAMES[2]),
        ("seed-1", NAMES[5]),
        ("capacity/s", NAMES[3]),
        ("capacity_2/seed-0", NAMES[4]),
    ],
)
def test_run_is_known_by_the_beginning_of_its_name(runs: Path, name: str, found: str) -> None:
    assert find_run(name) == runs / found


def test_path_comes_before_a_name(runs: Path, tmp_path: Path) -> None:
    Path("latest").mkdir()
    assert find_run("latest") == Path("latest")
    assert find_run(tmp_path / runs / NAMES[0]) == tmp_path / runs / NAMES[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2026", f"is that of 3: give more of {NAMES[2]}, {NAMES[1]}, {NAMES[0]}"),
        ("seed-0-abc", "is that of 2: give more of capacity_2/seed-0-abc, capacity/seed-0-abc"),
        ("nosuch", "nosuch does not exist, and experiments/runs has capacity_2/seed-1-def, .*, …"),
    ],
)
def test_name_of_none_or_several_is_refused_with_those_that_are_there(runs: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        find_run(name)
    assert refusal.value.exit_code == 2


def test_without_runs_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="latest does not exist, and experiments/runs has no run"):
        find_run("latest")


def test_sweeps_are_found_as_runs_are(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find_run("latest", sweeps=True) == runs / "capacity_2"
    assert find_run("capacity", sweeps=True) == runs / "capacity"
    assert find_run(NAMES[0][:14], sweeps=True) == runs / NAMES[0]
    report.main(["capacity_"])
    assert f"wrote {runs}/capacity_2/summary.md" in capsys.readouterr().out


def test_checkpoint_is_the_best_of_the_run_that_is_meant(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        UserError, match=rf"that holds {BEST}, but {runs}/{NAMES[-1]}/{BEST} does not exist: name a run"
    ):
        find_checkpoint("latest")
    (runs / NAMES[0] / BEST).parent.mkdir()
    (runs / NAMES[0] / BEST).touch()
    assert find_checkpoint("2026-11-25_12") == runs / NAMES[0] / BEST


def test_short_name_means_the_run_again(runs: Path, tmp_path: Path) -> None:
    names = [short_name(tmp_path / runs / name) for name in NAMES]
    # of two runs of one second, the one without a suffix has the shorter name
    assert names == [
        NAMES[0].removesuffix("_last"),
        NAMES[1],
        NAMES[2],
        str(runs / NAMES[3]),
        str(runs / NAMES[4]),
        # the job of a sweep does not look for its name among all others
        str(runs / NAMES[5]),
    ]
    assert short_name(tmp_path.parent) == str(tmp_path.parent)


@pytest.mark.parametrize("name", ["evaluate", "predict", "train"])
def test_commands_say_which_runs_there_are(
    runs: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = import_module(f"rnn_imdb.{name}").main
    monkeypatch.setattr(sys, "argv", [name, "resume=2026" if name == "train" else "2026"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert re.search(r"error: .* 2026 is that of 3: give more of", capsys.readouterr().err)
    assert len(list(runs.iterdir())) == 7
