"""The package as users get it: a wheel outside the checkout, the README's commands, the tree of imports."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from conftest import REVIEWS_PER_CLASS

from rnn_imdb.__main__ import COMMANDS, main

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rnn_imdb"


def run(*command: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=240, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as a wheel installs it, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("rnn_imdb", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", folder / "site", wheel)
    return folder / "site"


def test_wheel_trains_outside_the_checkout(installed_wheel: Path, small_overrides: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed_wheel)}
    where = run(sys.executable, "-c", "import rnn_imdb; print(rnn_imdb.__file__)", cwd=tmp_path, env=environment)
    assert Path(where.stdout.strip()).is_relative_to(installed_wheel)
    train = (sys.executable, "-m", "rnn_imdb.train", *small_overrides, "trainer.max_epochs=1")
    assert "test of epoch 1" in run(*train, cwd=tmp_path, env=environment).stdout
    conf = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    inside = installed_wheel / "rnn_imdb" / "conf"
    # annotations count for who imports the package
    assert (inside.parent / "py.typed").is_file()
    assert {path.relative_to(inside) for path in inside.rglob("*.yaml")} == conf


def readme_programs() -> tuple[str, str]:
    """The README's module of one's own parts, and its program."""
    own, program = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return own, program


def readme_commands() -> list[str]:
    """What the README's shell blocks run of this project, and its one long command."""
    text = (ROOT / "README.md").read_text()
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ").splitlines()
    long = re.findall(r"```text\n(python -m rnn_imdb.predict .*?)```", text, re.DOTALL)
    return [line for line in [*lines, *long] if "rnn_imdb." in line]


def test_readme_starts_with_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install torch==2.13.0 -e '.[embedded]' && python -m rnn_imdb.train" in text
    assert "pip install torch==2.13.0 -e '.[test]' && python -m pytest" in text


@pytest.fixture(scope="module")
def trained_run(forking_python: str, small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    run(
        *(forking_python, "-m", "rnn_imdb.train", *small_overrides, "trainer.max_epochs=1"),
        f"hydra.run.dir={folder / 'RUN'}",
        cwd=folder,
    )
    return folder


@pytest.mark.parametrize("line", readme_commands())
def test_readme_command_runs(
    line: str, forking_python: str, trained_run: Path, small_overrides: list[str], tmp_path: Path
) -> None:
    """Each command as it stands, but on the small archive, for a few batches, and with a run that exists."""
    module = re.search(r"python -m (rnn_imdb\.\w+)(.*)", line, re.DOTALL)
    assert module is not None, line
    # a run by its whole path, and a picture in a folder of the checkout
    short = re.sub(r"experiments/runs/\S+", "RUN", module[2].split("|")[0]).replace("experiments/", "")
    arguments = shlex.split(short)
    arguments = [re.sub(r"\b(RUN|latest)\b", str(trained_run / "RUN"), argument) for argument in arguments]
    archive = next(argument for argument in small_overrides if argument.startswith("data.root="))
    if module[1] == "rnn_imdb.train" and any(argument.startswith("resume=") for argument in arguments):
        # the configuration of the run counts
        arguments += small_overrides if "resume=auto" in arguments else []
    elif module[1] == "rnn_imdb.train" and "--help" not in arguments:
        # a sweep is shortened to two of its jobs, and of several overrides of one key the last counts
        arguments = [argument for argument in arguments if not argument.startswith("data")]
        # without a cluster, or plugins of one's own
        arguments = [argument for argument in arguments if not argument.startswith(("hydra/", "hydra.launcher"))]
        sweeps = "-m" in arguments or any(argument.startswith("sweep=") for argument in arguments)
        quick = ["trainer.max_epochs=1", "model.state_dim=4", "model.embedding_dim=4,5", "model.readout=last", "seed=0"]
        if sweeps:
            swept = ("model.", "seed=")
            arguments = [argument for argument in arguments if not argument.startswith(swept)] + quick
        else:
            arguments.append("trainer.fast_dev_run=1")
        arguments += small_overrides
    if "--sample" in arguments:
        arguments += ["--root", archive.removeprefix("data.root=")]
    if module[1] == "rnn_imdb.benchmark":
        quick = ["batch_sizes=[2]", "state_dims=[8]", "time=9", "seconds=0.01"]
        arguments += [*small_overrides, "repeats=1"] if "epoch=true" in arguments else quick
    if module[1] == "rnn_imdb.evaluate" and "data=csv" not in arguments:
        arguments = [argument for argument in arguments if not argument.startswith("data")]
        arguments += [archive, f"data.reviews_per_class={REVIEWS_PER_CLASS}"]
    (tmp_path / "mymodule.py").write_text(readme_programs()[0])
    rows = [f"film {i} was {('bad', 'good')[i % 2]},{i % 2}" for i in range(40)]
    (tmp_path / "others.csv").write_text("\n".join(["review,sentiment", *rows, ""]))
    run(forking_python, "-m", module[1], *arguments, cwd=tmp_path, input="a fine film")


def test_readme_program_runs(forking_python: str, trained_run: Path, small_overrides: list[str]) -> None:
    archive = next(argument for argument in small_overrides if argument.startswith("data.root="))
    program = readme_programs()[1].replace("aclImdb_v1.tar.gz", archive.removeprefix("data.root="))
    program = program.replace('"latest"', '"RUN"').replace(
        'compose("train", [', f'compose("train", [*{small_overrides}, '
    )
    printed = run(forking_python, "-c", program, cwd=trained_run).stdout
    # the lines of the program; those of evaluate and train stand between them
    assert re.match(r"0\.\d+\n.*^0\.\d+\n.*^0\.\d+ [0-9a-f]{16}\n$", printed, re.DOTALL | re.MULTILINE), printed


@pytest.mark.parametrize(
    "module", ["rnn_imdb", "rnn_imdb.config.compose", "rnn_imdb.config.hydra", "rnn_imdb.train", "rnn_imdb.predict"]
)
def test_light_modules_do_not_import_torch(module: str) -> None:
    run(sys.executable, "-c", f"import {module}, sys; assert 'torch' not in sys.modules")


def test_commands_by_name() -> None:
    def command(*arguments: str) -> str:
        return run(sys.executable, "-m", "rnn_imdb", *arguments).stdout

    listed = command()
    assert listed == command("--help")
    names = [path.stem for path in PACKAGE.glob("*.py") if "def main(" in path.read_text()]
    assert set(COMMANDS) == {*names} - {"__main__"}
    assert all(f"  {name} " in listed for name in COMMANDS)
    assert max(map(len, listed.splitlines())) <= 80
    assert command("predict", "--help").startswith("usage: python -m rnn_imdb.predict")
    assert "embedding_dim: 4" in command("train", "--cfg", "job", "model.embedding_dim=4")
    refused = subprocess.run([sys.executable, "-m", "rnn_imdb", "tarin"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert f"a command must be one of {', '.join(COMMANDS)}, got 'tarin'" in refused.stderr


def test_console_script_is_the_same() -> None:
    # a checkout has its own beside those of the environment
    scripts = entry_points(group="console_scripts", name="rnn-imdb")
    assert [script.load() for script in scripts] == [main] * max(1, len(scripts))
