"""The script that runs on a machine with a GPU, without one: its commands, and the end of one that takes too long."""

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import compose

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / ".ci" / "gpu.py"))
COMMANDS = [command for step in SCRIPT["STEPS"] for command in (step.command, f"{step.command} {step.small}")]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_accepted(command: str) -> None:
    words = shlex.split(command)
    name, arguments = words[words.index("-m") + 1], words[words.index("-m") + 2 :]
    if name == "pytest":
        (file,) = [Path(argument) for argument in arguments if argument.endswith(".py")]
        assert "def test_" in file.read_text()
    else:
        # of what a sweep varies, the first value
        values = [re.sub(r"^([\w.]+=[^,\[]*),.*", r"\1", argument) for argument in arguments if argument != "-m"]
        # the official archive need not be here
        values += ["data.root=.", "data.split_by=review"] if "experiment=best" in values else []
        compose(name.removeprefix("rnn_imdb."), *values)


def test_a_step_that_takes_too_long_is_ended_and_its_output_kept(tmp_path: Path) -> None:
    def run(command: str, limit: float) -> Any:
        return SCRIPT["run"](SCRIPT["Step"]("name", 9, command), sys.executable, limit, tmp_path, tmp_path / "log.txt")

    name, seconds, *rest = run("sh -c 'echo test of it; exec sleep 60'", 1)
    assert (name, rest) == ("name", ["time is up", "test of it"])
    assert 1 <= seconds < 60
    assert run("sh -c 'echo test of another; exit 3'", 60)[2:] == ("exit code 3", "test of another")
    assert run("no-such-program", 60)[2] == run("sh", 0)[2] == "left out"
    assert (tmp_path / "log.txt").read_text().count("=====") == 2
