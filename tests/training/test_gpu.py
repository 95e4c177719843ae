"""A training on a GPU, where there is one; elsewhere the same statements on the CPU."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from conftest import compose
from lightning.pytorch.accelerators import CPUAccelerator

from rnn_imdb.training.evaluation import evaluate
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_trainer, chosen_accelerator

GPU = torch.cuda.is_available()


class NoWaiting(L.Callback):
    """Lets a step fail that waits for the GPU: one between two points of the curves."""

    seen = 0

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        if GPU and self.seen:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.seen += 1
        if GPU:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("readout", ["last", "all", "attention"])
def test_no_step_between_two_points_waits_for_the_gpu(readout: str, small_overrides: list[str], tmp_path: Path) -> None:
    quiet = ("trainer.max_epochs=1", "trainer.log_every_n_steps=1000", "trainer.enable_progress_bar=false")
    config = compose("train", *small_overrides, "trainer.accelerator=auto", f"model.readout={readout}", *quiet)
    callback = NoWaiting()
    train(config, tmp_path / "run", callbacks=[callback])
    assert callback.seen == 4


def test_what_a_gpu_trained_scores_alike_on_the_cpu(small_overrides: list[str], tmp_path: Path) -> None:
    learning = ("trainer.accelerator=auto", "model.readout=mean", "optimizer.learning_rate=0.01")
    metrics = train(compose("train", *small_overrides, *learning), tmp_path / "run")
    data = {"root": small_overrides[1].removeprefix("data.root="), "reviews_per_class": 40}
    again = evaluate(tmp_path / "run", data=data, output=str(tmp_path / "again.json"), accelerator="cpu")
    assert again["test/loss"] == pytest.approx(metrics["test/loss"], rel=1e-4)


def test_auto_takes_the_cpu_in_place_of_apples_gpu(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = compose("train", *small_overrides, "trainer.accelerator=auto")
    assert isinstance(build_trainer(config, tmp_path, []).accelerator, CPUAccelerator)
    assert "auto takes the CPU" in capsys.readouterr().out
    assert chosen_accelerator("mps") == "mps"
    assert not capsys.readouterr().out
