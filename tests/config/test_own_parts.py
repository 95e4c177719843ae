"""Parts outside of the package: named on the command line they train, resume and open; named by a file alone, not."""

from pathlib import Path

import pytest
import torch
from conftest import compose, interrupt_at

import rnn_imdb
from rnn_imdb.common import errors
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST
from rnn_imdb.common.interrupts import Interrupted
from rnn_imdb.config.checks import check
from rnn_imdb.sweeps import command_line
from rnn_imdb.training import resume

MODULE = """\
from rnn_imdb.data.sources import Review, Source
from rnn_imdb.model.readout import Readout

class LastTwo(Readout):
    def __init__(self, state_dim, sequence_length):
        super().__init__(features=2 * state_dim)

    def forward(self, states, mask=None):
        return states[:, -2:].flatten(1)

def warm_up(s):
    return min(1.0, 0.1 + 10 * s)

class Mine(Source):
    def read(self):
        return [Review(f"review {i} was {('bad', 'good')[i % 2]}", i % 2) for i in range(80)]
"""
PARTS = [
    "model.readout=own_parts.LastTwo",
    *("optimizer=own", "optimizer.name=torch.optim.NAdam", "+optimizer.options.betas=[0.9,0.99]"),
    "optimizer.schedule=own_parts.warm_up",
]


@pytest.fixture(autouse=True)
def own_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module in the current folder, and a process in which nobody has named what it holds."""
    (tmp_path / "own_parts.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(rnn_imdb.sys.modules, "own_parts", raising=False)
    monkeypatch.setattr(errors, "_allowed", set())


def test_run_with_own_parts_resumes_bitwise_and_opens_where_they_are_named(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = [*small_overrides, *PARTS, "trainer.max_epochs=2", "test=false"]
    whole = rnn_imdb.train(compose("train", *typed), tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(Interrupted):
            rnn_imdb.train(compose("train", *typed), tmp_path / "parts")
    state = torch.load(tmp_path / "parts" / "checkpoints" / "last.ckpt")
    assert state["optimizer_states"][0]["param_groups"][0]["betas"] == [0.9, 0.99]
    monkeypatch.setattr(errors, "_allowed", set())
    stranger = resume.continued(tmp_path / "parts", compose("train"), [])
    with pytest.raises(UserError, match=r"its user must name it too, got model\.readout own_parts\.LastTwo: give"):
        rnn_imdb.train(stranger, tmp_path / "parts", resuming=True)
    again = resume.continued(tmp_path / "parts", compose("train", *typed), typed)
    assert rnn_imdb.train(again, tmp_path / "parts", resuming=True)["weights"] == whole["weights"]
    monkeypatch.setattr(errors, "_allowed", set())
    with pytest.raises(UserError, match=r"to evaluate as classes=\[own_parts\.LastTwo\], to predict as --class own_p"):
        rnn_imdb.load(tmp_path / "parts").predict("a wonderful film")
    model = rnn_imdb.load(tmp_path / "parts" / BEST, classes=["own_parts.LastTwo"])
    one, (same, other) = model.predict("a wonderful film"), model.predict(["a wonderful film", "a dull film"])
    assert one == same != other
    monkeypatch.setattr(errors, "_allowed", set())
    check(compose("evaluate", f"checkpoint={tmp_path / 'parts'}", "classes=[own_parts.LastTwo]"))
    scored = rnn_imdb.evaluate(model, split="validation", data={"root": again.data.root}, output=None)
    assert scored["validation/loss"] == pytest.approx(whole["validation/loss"], abs=1e-6)
    assert not list((tmp_path / "parts").glob("evaluation*"))


def test_source_of_ones_own_is_read(tmp_path: Path) -> None:
    data = ["data.source=own_parts.Mine", f"data.cache_dir={tmp_path / 'cache'}", "data.sequence_length=9"]
    metrics = rnn_imdb.train(compose("train", *data, "trainer.max_epochs=1"), tmp_path / "run")
    assert 0 <= metrics["test/accuracy"] <= 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.readout=own_parts.Last"], r"readout must be a class that Python finds, got own_parts\.Last \(module"),
        (
            ["model.readout=no_such.Last"],
            r"that Python finds, got no_such\.Last \(No module named 'no_such'\): cor",
        ),
        (["model.readout=own_parts.warm_up"], r"must be a class made from Readout, got own_parts\.warm_up: derive it"),
        (
            ["optimizer=own", "optimizer.name=own_parts.Mine"],
            r"must be a class made from Optimizer, got own_parts\.Mine",
        ),
        (["optimizer=own", "optimizer.name=torch.optim.NAdam", "+optimizer.options.gamma=1"], r"NAdam .*'gamma'"),
        (["optimizer=own"], r"optimizer\.name must be given: add optimizer\.name=VALUE"),
        (["optimizer=own", "optimizer.name=adam"], r"optimizer\.name must be a class as module\.Name, got 'adam'"),
        (["optimizer.name=torch.optim.NAdam"], r"or with optimizer=own a class as module\.Name, got 'torch\.optim\.NA"),
        (["model.readout=own parts.Last"], r"or your own as module\.Name, got 'own parts\.Last'"),
    ],
)
def test_part_that_cannot_be_used_is_refused(
    overrides: list[str], message: str, small_overrides: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        rnn_imdb.train(compose("train", *small_overrides, *overrides), tmp_path / "run")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("axis", ["model.readout: last,own_parts.LastTwo", "'+optimizer.name': [own_parts.Mine]"])
def test_sweep_file_names_no_class_of_its_own(axis: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(f"name: theirs\naxes:\n  {axis}\n")
    with pytest.raises(UserError, match=r"its values are names and numbers, got .*give that on the command line"):
        command_line.prepare([f"sweep={tmp_path / 'sweep.yaml'}"])
