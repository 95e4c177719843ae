"""The benchmark measures what was asked for, and refuses options that its measurement does not depend on."""

from typing import Any

import pytest
import torch
from conftest import compose

from rnn_imdb.benchmark import refuse_without_effect
from rnn_imdb.benchmarks import epochs
from rnn_imdb.benchmarks.jax_program import make_step
from rnn_imdb.common.errors import UserError
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.training import environment
from rnn_imdb.training.module import SentimentModule, mean_loss
from rnn_imdb.training.optimizers import RMSprop


@pytest.mark.parametrize(
    ("override", "epoch", "message"),
    [
        ("data.vocabulary_size=20000", False, r"data\.vocabulary_size goes with epoch=true, which was not given"),
        ("data=aclimdb", False, r"data goes with epoch=true"),
        ("optimizer=adam", False, r"optimizer goes with epoch=true"),
        ("repeats=5", False, r"repeats goes with epoch=true"),
        ("~callbacks.states", False, r"callbacks\.states goes with epoch=true"),
        ("batch_sizes=[2]", True, r"batch_sizes goes with the scan, got epoch=true"),
        ("time=9", True, r"time goes with the scan, got epoch=true"),
        ("trainer.max_epochs=2", True, r"trainer\.max_epochs cannot be given to all that epoch=true compares"),
        ("+trainer.max_steps=2", True, r"trainer\.max_steps cannot be given to all"),
        ("trainer=ddp", True, r"trainer cannot be given to all"),
        ("optimizer.schedule=linear", True, r"optimizer\.schedule cannot be given to all"),
    ],
)
def test_option_without_effect_is_refused(override: str, epoch: bool, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        refuse_without_effect(["output=x.csv", override], epoch=epoch)
    assert refused.value.exit_code == 2


def test_options_with_effect_are_taken() -> None:
    refuse_without_effect(["batch_sizes=[2]", "state_dims=[8]", "time=9", "seconds=1", "output=x"], epoch=False)
    ours = ["epoch=true", "repeats=1", "data=aclimdb", "optimizer=adam", "trainer.accelerator=cpu", "callbacks=insight"]
    refuse_without_effect([*ours, "logger=none", "optimizer.fused=true", "output=x"], epoch=True)


def test_every_contender_has_the_optimizer_and_the_words_asked_for(
    small_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[SentimentModule] = []
    with_group = SentimentModule.with_group

    def kept(*arguments: Any) -> SentimentModule:
        trained.append(with_group(*arguments))
        return trained[-1]

    monkeypatch.setattr(SentimentModule, "with_group", kept)
    config = compose(
        "benchmark",
        *small_overrides,
        "repeats=1",
        "optimizer=adam",
        "optimizer.betas=[0.8,0.9]",
        "data.vocabulary_size=50",
    )
    environment.start(0)
    rows = epochs.measure(config)
    assert [row["one epoch of"] for row in rows] == [
        "rnn_imdb",
        "callbacks that look in, after it",
        "the same steps without Lightning",
        "rnn_imdb, scan bptt",
        "torch.nn.RNN in the same module",
    ]
    assert [(module.optimizer, tuple(module.optimizer_options["betas"])) for module in trained] == 4 * [
        ("adam", (0.8, 0.9))
    ]
    assert [module.classifier.embedding.num_embeddings for module in trained] == 4 * [50]


def test_plain_jax_learns_as_the_package_does() -> None:
    pytest.importorskip("jax", reason="an extra")
    environment.start(0)
    classifier = ReviewClassifier(vocabulary_size=50)
    jax_step = make_step(classifier, learning_rate=0.01)
    optimizer = RMSprop(classifier.parameters(), lr=0.01, alpha=0.9, eps=1e-7)
    tokens, labels = torch.randint(50, (8, 4, 12)), torch.randint(2, (8, 4)).float()
    tokens[:, :2, :5] = 0
    losses = []
    for words, classes in zip(tokens, labels, strict=True):
        optimizer.zero_grad()
        loss = mean_loss(classifier(words), classes)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert abs(float(jax_step(words, classes)) - losses[-1]) < 1e-3
    # it has learned in the meantime
    assert max(losses) - min(losses) > 0.01


def test_keras_takes_part_with_its_own_optimizer() -> None:
    assert dict(compose("benchmark").optimizer) == epochs.KERAS_OPTIMIZER
