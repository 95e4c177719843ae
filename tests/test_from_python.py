"""What ``import rnn_imdb`` gives, where one's own class is found, the cache command, and a system without POSIX."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import rnn_imdb
from rnn_imdb.__main__ import main
from rnn_imdb.cache import main as cache


def run(program: str, *arguments: str, **options: Any) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_names_come_when_they_are_used() -> None:
    run(
        "import sys, rnn_imdb; made = rnn_imdb.compose('train', ['model.readout=all'])\n"
        "assert made.model.readout == 'all' and 'torch' not in sys.modules\n"
        "assert {'load', 'TanhCell', '__version__'} <= {*dir(rnn_imdb)}"
    )
    for name in ("train", "evaluate", "predict"):
        # whether or not the command of that name was imported
        import_module(f"rnn_imdb.{name}")
        assert isinstance(getattr(rnn_imdb, name), FunctionType)
    assert all(isinstance(getattr(rnn_imdb, name), type) for name in rnn_imdb._MODULES if name[0].isupper())
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = rnn_imdb.nothing


def test_current_folder_is_looked_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", ["rnn-imdb", "cache", "--help"])
    monkeypatch.delitem(sys.modules, "rnn_imdb.cache")
    with pytest.raises(SystemExit, match="0"):
        main()
    assert sys.path[-1] == str(tmp_path)
    assert capsys.readouterr().out.startswith("usage: python -m rnn_imdb.cache")


@pytest.mark.parametrize(
    ("line", "choice"),
    [
        ("rnn-imdb tr", "train"),
        ("rnn-imdb train model.rea", "model.readout="),
        ("rnn-imdb evaluate data=", "data=as_trained"),
    ],
)
def test_tab_completes_commands_and_options(
    line: str, choice: str, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["rnn-imdb", "-sc", "query=bash"])
    monkeypatch.setenv("COMP_LINE", line)
    main()
    assert choice in capfd.readouterr().out.split()


def test_caches_are_listed_and_removed(
    small_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cache"
    for length in (8, 9):
        data = rnn_imdb.compose("train", [*small_overrides, f"data.sequence_length={length}"]).data
        rnn_imdb.IMDBDataModule(**{**data, "cache_dir": str(folder)}).setup()
    (folder / "mine").mkdir()
    (folder / f".{16 * '0'}-{32 * '0'}").mkdir()
    for option, word in (([], ""), (["--clear"], "removed ")):
        capsys.readouterr()
        cache(["--folder", str(folder), *option])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 4
        assert all(f"  {length} tokens  10,000 words" in "\n".join(lines) for length in (8, 9))
        assert "incomplete or damaged" in lines[0]
        assert lines[-1].startswith(f"{word}3 caches, 0.")
    assert [path.name for path in folder.iterdir()] == ["mine"]
    cache(["--folder", str(tmp_path / "none")])
    assert capsys.readouterr().out.startswith("0 caches, 0.0 MB")


# what Windows does not have; of msvcrt, what is asked of it
NO_POSIX = """
import os, signal, sys
from types import SimpleNamespace
import lightning.pytorch, matplotlib.pyplot, tensorboard, torch.utils.tensorboard
for name in ("fcntl", "grp", "pwd", "readline", "resource", "termios", "tty"):
    sys.modules[name] = None
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGXCPU", "alarm", "setitimer"):
    delattr(signal, name)
for name in ("O_NOFOLLOW", "O_NONBLOCK", "fork", "getuid", "killpg", "mkfifo", "sched_getaffinity", "setsid"):
    delattr(os, name)
sys.modules["msvcrt"] = SimpleNamespace(LK_NBLCK=2, locking=lambda *given: print("locks", *given[1:]))
from rnn_imdb.train import main
from rnn_imdb import cache, evaluate, load, predict, report
main()
(answer,) = predict(load("latest"), ["a wonderful film"])
print(answer.label)
"""


def test_nothing_but_a_guarded_line_is_posix(small_overrides: list[str], tmp_path: Path) -> None:
    short = ["trainer.limit_train_batches=2", "trainer.max_epochs=1", "test=false"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    printed = run(NO_POSIX, *small_overrides, *short, cwd=tmp_path, env=environment).splitlines()
    assert "locks 2 1" in printed
    assert printed[-1] in ("positive", "negative")
