"""The learning rate over a run, smoothed labels, and averaged weights; interrupted runs go on with each."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import compose, interrupt_at
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, LAST
from rnn_imdb.common.interrupts import Interrupted
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.training import resume
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.evaluation import evaluate
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.optimizers import SCHEDULES
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_data

QUICK = ["trainer.max_epochs=3", "optimizer=adamw", "optimizer.learning_rate=0.01", "model.state_dim=8"]


def torchs(name: str, steps: int) -> list[float]:
    """Learning rates of torch's schedule for a largest one of 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    kinds = torch.optim.lr_scheduler
    scheduler = {
        "linear": lambda: kinds.LinearLR(optimizer, 1.0, 0.0, steps),
        "cosine": lambda: kinds.CosineAnnealingLR(optimizer, steps),
        "one_cycle": lambda: kinds.OneCycleLR(optimizer, 1.0, steps, cycle_momentum=False),
    }[name]()
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_torchs(name: str) -> None:
    steps, schedule = 5000, SCHEDULES[name]
    # torch counts the steps of a cycle from 1 less
    assert [schedule(step / steps) for step in range(steps)] == pytest.approx(torchs(name, steps), abs=2e-3)
    assert schedule(1.0) == pytest.approx(1 / 250_000 if name == "one_cycle" else 0, abs=1e-12)


def learning_rates(
    small_overrides: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> list[float]:
    """The learning rate of each training step."""
    rates: list[float] = []

    before = SentimentModule.on_before_optimizer_step

    def note(self: SentimentModule, optimizer: torch.optim.Optimizer) -> None:
        rates.append(optimizer.param_groups[0]["lr"])
        before(self, optimizer)

    monkeypatch.setattr(SentimentModule, "on_before_optimizer_step", note)
    train(compose("train", *small_overrides, *QUICK, "test=false", *options), folder)
    return rates


def test_each_step_has_its_own_learning_rate(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 4 batches in an epoch
    rates = learning_rates(small_overrides, tmp_path / "linear", monkeypatch, "optimizer.schedule=linear")
    assert rates == pytest.approx([0.01 * (1 - step / 12) for step in range(12)])
    # an epoch shows the rate of its last step
    events = EventAccumulator(str(tmp_path / "linear")).Reload()
    assert [event.value for event in events.Scalars("learning_rate")] == pytest.approx(rates[3::4])
    options = ["optimizer.schedule=cosine", "trainer.accumulate_grad_batches=2"]
    rates = learning_rates(small_overrides, tmp_path / "cosine", monkeypatch, *options)
    assert rates == pytest.approx([0.005 * (1 + np.cos(np.pi * step / 6)) for step in range(6)])


def test_smoothed_labels_are_trained_on_and_never_shown() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(9), torch.arange(9).remainder(2).float()

    class Fixed(torch.nn.Module):
        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return logits

    module = SentimentModule(Fixed(), label_smoothing=0.2)  # pyright: ignore[reportArgumentType] it has what is called
    module._trainer = type("Alone", (), {"world_size": 1})()  # pyright: ignore[reportAttributeAccessIssue]
    batch = (torch.zeros(9, 3), labels)
    # 0.9 for a positive review and 0.1 for a negative one
    smooth = -(labels * 0.8 + 0.1) * F.logsigmoid(logits) - (0.9 - labels * 0.8) * F.logsigmoid(-logits)
    torch.testing.assert_close(module.training_step(batch, 0), smooth.mean())
    assert torch.equal(module.validation_step(batch, 0), logits)
    loss = F.binary_cross_entropy_with_logits(logits, labels).item()
    assert module.train_metrics.compute()["train/loss"] == loss
    assert module.validation_metrics.compute()["validation/loss"] == loss


def test_target_replication_trains_on_what_the_head_says_after_each_word() -> None:
    torch.manual_seed(0)
    classifier = ReviewClassifier(sequence_length=6, state_dim=4, embedding_dim=3, vocabulary_size=9)
    tokens = torch.tensor([[0, 0, 3, 4, 5, 6], [7, 8, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0]])
    labels = torch.tensor([1.0, 0.0, 1.0])
    losses = {}
    for share in (0.0, 0.25, 1.0):
        module = SentimentModule(classifier, target_replication=share)
        module._trainer = type("Alone", (), {"world_size": 1})()  # pyright: ignore[reportAttributeAccessIssue]
        losses[share] = module.training_step((tokens, labels), 0)
        # a figure of an epoch is of the last state alone
        assert module.train_metrics.compute()["train/loss"] == pytest.approx(losses[0.0].item())
    # a review cut after a word; each review counts once, an empty one says nothing
    after = torch.stack([classifier(tokens[:, : t + 1]) for t in range(6)], dim=1)
    each = F.binary_cross_entropy_with_logits(after, labels[:, None].expand(3, 6), reduction="none")
    torch.testing.assert_close(losses[1.0], (each[0, 2:].mean() + each[1].mean()) / 3)
    torch.testing.assert_close(losses[0.25], 0.75 * losses[0.0] + 0.25 * losses[1.0])


DROPPING = ["model.word_dropout=0.2", "model.embedding_dropout=0.3", "model.head_dropout=0.4"]
PARTS = ["model.bigrams=50", "model.bidirectional=true", "model.readout=mean_max"]


@pytest.mark.parametrize(
    "options",
    [
        [*DROPPING, *PARTS, "optimizer.schedule=one_cycle", "optimizer.label_smoothing=0.1", "optimizer.fused=true"],
        ["callbacks=averaged", "callbacks.average.decay=0.7", "optimizer.schedule=linear", "model.word_dropout=0.1"],
    ],
    ids=["dropping", "averaged"],
)
def test_interrupted_run_continues_bitwise(options: list[str], small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, *QUICK, *options)
    train(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 7)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "parts")
    train(config, tmp_path / "parts", resuming=True)
    for which in (BEST, LAST):
        parts, whole = (torch.load(tmp_path / name / which, weights_only=True) for name in ("parts", "whole"))
        for key in ("state_dict", "current_model_state") if "callbacks=averaged" in options else ("state_dict",):
            assert parts[key].keys() == whole[key].keys()
            assert all(torch.equal(parts[key][name], whole[key][name]) for name in whole[key])
        assert parts["lr_schedulers"] == whole["lr_schedulers"] != []


@pytest.mark.usefixtures("places")
def test_checkpoint_has_the_averaged_weights_that_were_validated(small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, *QUICK, "callbacks=averaged", "callbacks.average.decay=0.9")
    metrics = train(config, tmp_path / "run")
    scored = evaluate(tmp_path / "run", split="validation", output=str(tmp_path / "metrics.json"))
    for figure in ("validation/loss", "validation/accuracy"):
        assert scored[figure] == pytest.approx(metrics[figure], abs=1e-6)
    content = torch.load(tmp_path / "run" / BEST, weights_only=True)
    averaged, current = content["state_dict"], content["current_model_state"]
    assert not any(torch.equal(averaged[name], current[name]) for name in averaged)
    assert evaluate(tmp_path / "run", output=str(tmp_path / "m.json"))["test/loss"] == pytest.approx(
        metrics["test/loss"], abs=1e-6
    )


def test_average_is_that_of_the_steps(small_overrides: list[str], tmp_path: Path) -> None:
    steps: list[torch.Tensor] = []
    update = SentimentModule.on_train_batch_end
    with pytest.MonkeyPatch.context() as patch:

        def keep(self: SentimentModule, *args: object, **kwargs: object) -> None:
            steps.append(self.classifier.head.weight.detach().clone())
            update(self, *args, **kwargs)  # pyright: ignore[reportArgumentType] handed on

        patch.setattr(SentimentModule, "on_train_batch_end", keep)
        options = ["callbacks=averaged", "callbacks.average.decay=0.75", "trainer.max_epochs=1", "test=false"]
        train(compose("train", *small_overrides, *QUICK, *options), tmp_path / "run")
    expected = steps[0]
    for weight in steps[1:]:
        expected = 0.75 * expected + 0.25 * weight
    torch.testing.assert_close(open_checkpoint(tmp_path / "run" / LAST).weights["head.weight"], expected)


@pytest.mark.usefixtures("places")
def test_new_parts_survive_in_a_checkpoint(small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, *QUICK, *DROPPING, *PARTS, "data.truncation=both")
    metrics = train(config, tmp_path / "run")
    opened = open_checkpoint(tmp_path / "run")
    model, data = opened.classifier(), build_data(config.data, vocabulary=opened.vocabulary)
    tokens, labels = next(iter(data.loader("test")))
    assert len(labels) == len(data.split("test").labels)
    loss = F.binary_cross_entropy_with_logits(model(tokens), labels).item()
    assert loss == pytest.approx(metrics["test/loss"], abs=1e-6)
    assert metrics["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert evaluate(tmp_path / "run", output=str(tmp_path / "m.json"))["test/loss"] == pytest.approx(loss, abs=1e-6)


def test_scheduled_run_does_not_grow(small_overrides: list[str], tmp_path: Path) -> None:
    train(compose("train", *small_overrides, *QUICK, "optimizer.schedule=linear", "test=false"), tmp_path / "run")
    overrides = ["trainer.max_epochs=4"]
    with pytest.raises(UserError, match=r"max_epochs is 3 .* may grow, with optimizer\.schedule=constant"):
        resume.continued(tmp_path / "run", compose("train", *small_overrides, *overrides), overrides)
