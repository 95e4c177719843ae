"""Jobs of a grid or a search: what they are told, how they are composed, and that they run side by side."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf

from rnn_imdb.config.compose import conf_root, register
from rnn_imdb.config.names import OBJECTIVES
from rnn_imdb.sweeps.engine import Composer, SideBySide

# a sweeper as a user may install one; it lies in the folder in which the command runs
SWEEPER = """
import json
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

class Halves(Sweeper):
    def __init__(self, params, direction, sampler):
        self.params, self.told = params, [list(direction), sampler["seed"]]

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        (axis,) = self.params
        returned = [
            job.return_value
            for number, value in enumerate((4, 8))
            for job in self.launcher.launch([[f"{axis}={value}"]], number)
        ]
        print(json.dumps([arguments, *self.told, returned]))

space = {"model.state_dim": "interval(4, 8)"}
node = {"_target_": "hydra_plugins.halves.Halves", "params": space, "direction": "minimize", "sampler": {"seed": None}}
ConfigStore.instance().store(group="hydra/sweeper", name="halves", node=node)
"""


def test_search_is_told_its_objective_and_reads_no_test(
    small_overrides: list[str], command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "halves.py").write_text(SWEEPER)
    quick = ("trainer.max_epochs=1", "model.embedding_dim=4", "callbacks.early_stopping=null", "seed=3")
    objectives = "sweep.objective=[validation/accuracy,parameters]"
    search = (*small_overrides, *quick, objectives, "hydra.mode=MULTIRUN", "hydra/sweeper=halves")
    done = command("train", *search)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = tmp_path / "experiments" / "runs" / "state_dim"
    found = [json.loads(next(runs.glob(f"state_dim-{size}-*/metrics.json")).read_text()) for size in (4, 8)]
    assert not any(name.startswith("test/") for metrics in found for name in metrics)
    expected = [[metrics["validation/accuracy"], metrics["parameters"]] for metrics in found]
    told = [line for line in done.stdout.splitlines() if line.startswith("[[")]
    # what stays the same is not the sweeper's
    assert [json.loads(line) for line in told] == [[[], ["maximize", "minimize"], 3, expected]]
    again = command("train", *search)
    assert again.stdout.count("finished before") == 2
    assert told[0] in again.stdout
    tested = command("train", *search, "test=true")
    assert tested.returncode == 2
    assert "a search chooses by what it reads" in tested.stderr


def test_objectives_are_no_figures_of_the_test() -> None:
    assert not any(name.startswith("test/") for name in OBJECTIVES)
    assert set(OBJECTIVES.values()) == {"min", "max"}


@pytest.fixture
def loader() -> Iterator[Any]:
    register()
    with initialize_config_dir(str(conf_root("train")), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def test_job_composed_from_another_is_what_hydra_composes(loader: Any) -> None:
    everywhere = ["sweep.swept=[seed]", "callbacks.early_stopping=null", "+trainer.profiler=simple"]
    master = loader.load_configuration("train", everywhere, RunMode.MULTIRUN)
    OmegaConf.update(master, "hydra.overrides.hydra", everywhere)
    quick = Composer(loader)
    for overrides in (
        ["seed=1"],
        ["seed=2", "model.state_dim=8"],
        ["optimizer=adam", "optimizer.betas=[0.8,0.9]", "seed=1"],
        ["optimizer=sgd", "seed=1", "optimizer.momentum=0.5"],
        [
            "~callbacks.forgetting",
            "+callbacks.more={_target_: x, a: '1,2'}",
            "experiment=best",
            "hydra.verbose=true",
        ],
        ["data.root='a, b'", "callbacks=insight", "seed=5"],
    ):
        composed, expected = (each.load_sweep_config(master, overrides) for each in (quick, loader))
        # Hydra lists them in the order given
        for config in (composed, expected):
            config.hydra.overrides.task = sorted(config.hydra.overrides.task)
        plain = [OmegaConf.to_container(config, resolve=False) for config in (composed, expected)]
        assert plain[0] == plain[1]
        assert OmegaConf.get_type(composed.model) is OmegaConf.get_type(expected.model)
        with pytest.raises(Exception, match=r"Key 'nosuch' (is )?not in"):
            composed.model.nosuch = 1


def test_job_is_told_how_many_run_side_by_side(loader: Any) -> None:
    # it shares the cores with them
    master = loader.load_configuration("train", [], RunMode.MULTIRUN)
    quick = Composer(loader)
    quick.load_sweep_config(master, ["seed=1"])
    master.hydra.launcher.n_jobs = 2
    assert quick.load_sweep_config(master, ["seed=2"]).hydra.launcher.n_jobs == 2


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch) -> SideBySide:
    """A launcher of two jobs at a time, each of which is a number that it returns, a signal, or an exit code."""

    def launch(self: Any, jobs: list[list[str]], number: int) -> list[JobReturn]:
        ((kind, value),) = (job[0].split("=") for job in jobs)
        if kind == "signal":
            os.kill(os.getpid(), int(value))
        if kind == "exit":
            raise SystemExit(int(value))
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=[number, value])]

    (basic,) = SideBySide.__bases__
    monkeypatch.setattr(basic, "launch", launch)
    made = SideBySide()
    made.config = OmegaConf.create({"sweep": {"workers": 2}, "hydra": {"launcher": {"n_jobs": None}}})
    return made


def test_killed_job_ends_no_other(launcher: SideBySide, capfd: pytest.CaptureFixture[str]) -> None:
    jobs = [["a=1"], [f"signal={int(signal.SIGKILL)}"], ["a=2"], ["a=3"]]
    assert [job.return_value for job in launcher.launch(jobs, 5)] == [[5, "1"], None, [7, "2"], [8, "3"]]
    assert (
        capfd.readouterr().out
        == "job 7: killed by SIGKILL, as happens where memory runs out; the same command goes on\n"
    )
    assert launcher.config.hydra.launcher.n_jobs == 2  # type: ignore[union-attr]


def test_job_that_ends_the_sweep_ends_it_with_its_code(launcher: SideBySide) -> None:
    with pytest.raises(SystemExit) as ended:
        launcher.launch([["exit=2"], ["a=1"], ["a=2"]], 0)
    assert ended.value.code == 2
