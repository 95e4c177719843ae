"""What a user types reaches Hydra as it stands, or is refused in plain words; what is printed can be pasted."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import compose

from rnn_imdb.common.errors import UserError
from rnn_imdb.config.command_line import PATHS, parsed, pasted, prepare, readable
from rnn_imdb.sweeps import command_line as sweep

# file names that people have: archives downloaded twice, homes with accents, checkpoints of Lightning
NAMES = [
    *("aclImdb (1).tar.gz", "epoch=3-step=5.ckpt", "/home/josé/r中", "a#b&c", "it's", "[old]", "{new}", "a;b^c<d!"),
    *("Reviews, all", "1e5", "007", "true", "x y", "choice(1,2)", "range(2)", '"', "a:b", "=", "-1.0", "~nouser/x"),
]


def values(*overrides: str, several: bool = False) -> list[Any]:
    return [override.value() for override in parsed(readable(list(overrides), several=several))]


@pytest.mark.parametrize("name", NAMES)
def test_path_is_what_stands_there(name: str) -> None:
    overrides = [f"{key}={name}" for key in PATHS]
    assert values(*overrides) == [name] * len(PATHS)
    # a process of a distributed training reads the command line again
    again = readable(overrides, several=False)
    assert readable(again, several=False) == again


def test_home_is_expanded_where_the_shell_leaves_it() -> None:
    home = Path.home()
    assert values("data.root=~/a.tar.gz", "++resume=~/b=1", "hydra.run.dir=~") == [
        f"{home}/a.tar.gz",
        f"{home}/b=1",
        str(home),
    ]
    given = readable(["data=aclimdb", "data.root=~/é (1)"], several=False)
    assert compose("train", *given).data.root == f"{home}/é (1)"


def test_what_was_written_for_hydra_stays() -> None:
    overrides = ["data.root=null", "data.root='~/a=b'", r"checkpoint=a\=b", "resume=auto", "data.root=${oc.env:HOME}"]
    assert readable(overrides, several=False) == [*overrides[:3], "resume='auto'", "data.root='${oc.env:HOME}'"]
    assert values(*overrides) == [None, "~/a=b", "a=b", "auto", "${oc.env:HOME}"]
    others = ["optimizer.betas=[0.9,0.99]", "+x={a:1,b:[2]}", "seed=1", "~logger.tensorboard", "x='a,b'", "x=null"]
    assert readable(others, several=False) == others


@pytest.mark.parametrize("text", ["~a", "a=b", "é", "(1)", "{epoch}-{loss}", "it's", "range(1", "seed,", "foo(1)"])
def test_value_that_hydra_cannot_read_is_a_text(text: str) -> None:
    assert values(f"callbacks.best_checkpoint.filename={text}") == [text]


def test_sweeps_keep_their_meaning() -> None:
    kept = ["seed=0,1", "model.state_dim=range(1,4)", "model=glob(*)", "x=choice(a,b)", "x=[1,2],[3,4]", "x={a:1},2"]
    assert readable(kept, several=True) == kept
    assert readable(["data.root=~/a,é (1)", "x=é,'a,b',[1,2]"], several=True) == [
        f"data.root='{Path.home() / 'a'}','é (1)'",
        "x='é','a,b',[1,2]",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.readout"], r"an option is KEY=VALUE, .* got 'model\.readout': put a value with blanks into quotes"),
        (["-m", "seed=0,", "1"], r"an option is KEY=VALUE, .* got '1': put a value with blanks into quotes"),
        (["-m", "seed=0,", "-1"], r"an option is KEY=VALUE, .* got '-1'"),
        ([str(Path(__file__).parents[1])], r"an option is KEY=VALUE, .* got '.*tests': resume=.*tests continues a run"),
        (["=1"], r"an option is KEY=VALUE, whose key is letters, .* got '=1'"),
        (["~"], r"an option is KEY=VALUE, whose key is letters, .* got '~'"),
        (["größe=1"], r"an option is KEY=VALUE, whose key is letters, .* got 'größe=1'"),
        (["seed=0,1"], r"several values need a sweep, got 'seed=0,1': add -m .*, or write a list as \[1,2\]"),
        (["seed=range(3)"], r"several values need a sweep, got 'seed=range\(3\)': add -m"),
        (["seed=interval(0,1)"], r"several values need a sweep, got 'seed=interval\(0,1\)': add -m"),
        (["x=[1,~a"], r"a list is \[1,2\] and a dictionary .* got x=\[1,~a: put what holds other signs into quotes"),
        (["-m", "x=1,[é]"], r"a list is \[1,2\] and a dictionary .* got x=\[é\]: put what holds"),
        (["--epochs", "5"], r"unrecognized arguments: --epochs: options are KEY=VALUE"),
        (["--multi", "seed=1,2"], r"unrecognized arguments: --multi: options are KEY=VALUE"),
        (["--experimental-rerun", "x"], r"--experimental-rerun would run what code a file holds: options are"),
        (["--package", "model"], r"--package goes with --cfg, which prints that part: options are"),
        (["--cfg"], r"argument --cfg/-c: expected one argument: options are KEY=VALUE"),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", [prepare, sweep.prepare])
def test_what_hydra_would_say_in_its_own_words(
    command: Callable[[list[str]], list[str]], arguments: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        command(arguments)
    assert refused.value.exit_code == 2


def test_file_of_a_run_is_no_configuration_of_hydras(tmp_path: Path) -> None:
    """It could name callbacks of Hydra, which are made unasked."""
    arguments = ["--config-path", str(tmp_path), "--config-name", "config"]
    assert prepare(arguments) == arguments
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match=r"is a run, whose file may name any code: resume=.* continues it: options are"):
        prepare(arguments)


def test_evaluate_takes_a_path_alone(tmp_path: Path) -> None:
    assert prepare(["split=validation", "a/b"], bare="checkpoint") == ["split=validation", "checkpoint='a/b'"]
    file = tmp_path / "epoch=3.ckpt"
    file.touch()
    assert prepare([str(file)], bare="checkpoint") == [f"checkpoint='{file}'"]
    with pytest.raises(UserError, match="one checkpoint at a time, got a b"):
        prepare(["a", "b"], bare="checkpoint")


@pytest.mark.parametrize(
    ("arguments", "prepared"),
    [
        (["~logger.tensorboard", "seed=1", "--cfg", "job"], ["--cfg", "job", "~logger.tensorboard", "seed=1"]),
        (["seed=1", "-c", "job", "-p", "model", "test=false"], ["-c", "job", "-p", "model", "seed=1", "test=false"]),
        (["seed=1", "--", "~callbacks.states"], ["seed=1", "~callbacks.states"]),
        (["-sc", "query=bash"], ["-sc", "query=bash"]),
        (["seed=1", "--info", "config"], ["--info", "config", "seed=1"]),
    ],
)
def test_flags_may_stand_anywhere(arguments: list[str], prepared: list[str]) -> None:
    assert prepare(arguments) == sweep.prepare(arguments) == prepared


@pytest.mark.parametrize("name", [*NAMES, "'quoted'", r"back\slash", "plain"])
def test_what_is_printed_can_be_pasted(name: str) -> None:
    words = shlex.split(pasted("checkpoint", Path(name)))
    assert values(*words) == [name]
