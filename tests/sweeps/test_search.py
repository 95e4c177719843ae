"""Searches from Python: callbacks of the caller's, and the examples in experiments/search."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
from conftest import compose

from rnn_imdb.sweeps.results import read_jobs
from rnn_imdb.training.run import train

HOME = Path(__file__).parents[2]


class Stop(L.Callback):
    """Ends a training after its first epoch."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True


def test_trial_that_is_ended_has_its_figures_in_the_report(small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, "trainer.max_epochs=3", "test=false", "model.embedding_dim=4")
    folder = tmp_path / "search" / "trial"
    metrics = train(config, folder, resuming=True, callbacks=[Stop()])
    assert metrics["epochs"] == 1
    (job,) = read_jobs(folder.parent)
    assert job.status == "finished"
    assert job.metrics["validation/accuracy"] == metrics["validation/accuracy"]
    # and is not trained again
    assert train(config, folder, resuming=True) == metrics


@pytest.mark.parametrize(("example", "needs"), [("optuna_pruner", "optuna"), ("ray_asha", "ray.tune")])
def test_example_searches(example: str, needs: str, small_overrides: list[str], tmp_path: Path) -> None:
    pytest.importorskip(needs, reason=f"{needs} is the user's to install")
    options: dict[str, Any] = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 240}
    program = [sys.executable, str(HOME / "experiments" / "search" / f"{example}.py")]
    done = subprocess.run([*program, *small_overrides, "trainer.max_epochs=2", "model.embedding_dim=4"], **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("best")
    jobs = read_jobs(tmp_path / "experiments" / "runs" / example)
    assert any(job.status == "finished" for job in jobs)
    assert not any(name.startswith("test/") for job in jobs for name in job.metrics)
