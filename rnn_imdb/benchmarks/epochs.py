"""One training epoch of the lecture's model, whole: data, Lightning, bar and TensorBoard included."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional as F

from rnn_imdb import lecture_keras
from rnn_imdb.benchmarks.jax_program import make_step
from rnn_imdb.benchmarks.table import Row
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.insight.callbacks import Insight
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.training.module import SentimentModule, mean_loss
from rnn_imdb.training.trainer import build_data, build_trainer

# what compile(optimizer="rmsprop") means
KERAS_OPTIMIZER = {
    **{"name": "rmsprop", "learning_rate": 0.001, "weight_decay": 0.0, "schedule": "constant"},
    **{"label_smoothing": 0.0, "target_replication": 0.0, "alpha": 0.9, "eps": 1e-7, "momentum": 0.0},
}


class TorchCell(nn.Module):
    """``torch.nn.RNN`` in place of our cell, fed as usual: embedding, then RNN."""

    def __init__(self, embedding_dim: int = 32, state_dim: int = 32) -> None:
        super().__init__()
        self.rnn = nn.RNN(embedding_dim, state_dim, batch_first=True)

    def forward(self, tokens: Tensor, mask: None = None, *, embedding: Tensor, only_last: bool = False) -> Tensor:
        return self.rnn(F.embedding(tokens, embedding))[0]


class Clock(L.Callback):
    """Seconds of a training epoch without its validation, and of the ``Insight`` callbacks after it."""

    training = insight = 0.0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue] Lightning lists them there
            if isinstance(callback, Insight):
                callback.on_validation_epoch_end = self._timed(callback.on_validation_epoch_end)

    def _timed(self, hook: Callable[..., None]) -> Callable[..., None]:
        def timed(*arguments: Any) -> None:
            started = time.perf_counter()
            hook(*arguments)
            self.insight += time.perf_counter() - started

        return timed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.training = -time.perf_counter()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.training += time.perf_counter()


def measure(config: DictConfig) -> list[Row]:
    """Seconds of one epoch for each contender, ``config.repeats`` times in turn; the first is the default.

    Keras and JAX take part with the optimizer of Keras's program alone.
    """
    data = build_data(config.data)
    data.setup()
    words = len(data.vocabulary)
    clocks: list[Clock] = []

    def lightning_epoch(classifier: ReviewClassifier) -> float:
        clocks.append(_lightning_epoch(config, data, classifier))
        return clocks[-1].training

    contenders: dict[str, Callable[[], float]] = {
        "rnn_imdb": lambda: lightning_epoch(ReviewClassifier(vocabulary_size=words)),
        "callbacks that look in, after it": lambda: clocks[-1].insight,
        "the same steps without Lightning": lambda: _bare_epoch(config, data),
        "rnn_imdb, scan bptt": lambda: lightning_epoch(ReviewClassifier(vocabulary_size=words, scan="bptt")),
        "torch.nn.RNN in the same module": lambda: lightning_epoch(with_torch_rnn(words)),
    }
    if lecture_keras.available() and dict(config.optimizer) == KERAS_OPTIMIZER:
        contenders["Keras on JAX, same arrays"] = lambda: _keras_epoch(config, data)
        contenders["plain JAX, same arrays"] = lambda: _jax_epoch(data)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(config.repeats):
        for name, epoch in contenders.items():
            times[name].append(epoch())
    return [
        {
            "one epoch of": name,
            "reviews": len(data.split("train").labels),
            "median s": statistics.median(seconds),
            "min s": min(seconds),
            "max s": max(seconds),
            "rnn_imdb is faster x": statistics.median(seconds) / statistics.median(times["rnn_imdb"]),
        }
        for name, seconds in times.items()
    ]


def with_torch_rnn(vocabulary_size: int = 10_000) -> ReviewClassifier:
    """The default classifier with ``torch.nn.RNN`` as its recurrence."""
    classifier = ReviewClassifier(vocabulary_size=vocabulary_size)
    classifier.cell = TorchCell()  # pyright: ignore[reportAttributeAccessIssue] it has what the classifier calls
    return classifier


def _lightning_epoch(config: DictConfig, data: IMDBDataModule, classifier: ReviewClassifier) -> Clock:
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, Path(folder), [clock])
        trainer.fit(SentimentModule.with_group(classifier, config.optimizer), data)
    return clock


def _bare_epoch(config: DictConfig, data: IMDBDataModule) -> float:
    """What is left when Lightning, its logging and the bar are taken away."""
    classifier = ReviewClassifier(vocabulary_size=len(data.vocabulary))
    optimizer: Any = SentimentModule.with_group(classifier, config.optimizer).configure_optimizers()
    started = time.perf_counter()
    for tokens, labels in data.train_dataloader():
        optimizer.zero_grad()
        mean_loss(classifier(tokens), labels).backward()
        optimizer.step()
    return time.perf_counter() - started


def _keras_epoch(config: DictConfig, data: IMDBDataModule) -> float:
    """The lecture's Keras program on JAX; compiling it is not counted."""
    model = lecture_keras.lecture_model(
        vocabulary_size=len(data.vocabulary), sequence_length=config.data.sequence_length
    )
    batch_size = config.data.batch_size
    split = data.split("train")
    tokens, labels = np.asarray(split.tokens, dtype=np.int32), np.asarray(split.labels, dtype=np.float32)
    model.fit(tokens[: 2 * batch_size], labels[: 2 * batch_size], batch_size=batch_size, verbose=0)
    started = time.perf_counter()
    model.fit(tokens, labels, batch_size=batch_size, verbose=0)
    return time.perf_counter() - started


def _jax_epoch(data: IMDBDataModule) -> float:
    """The same steps in plain JAX; compiling them, for a whole batch and a smaller last one, is not counted."""
    step = make_step(ReviewClassifier(vocabulary_size=len(data.vocabulary)))
    batches = data.train_dataloader()
    shapes = {len(labels): (tokens, labels) for tokens, labels in batches}
    for tokens, labels in shapes.values():
        step(tokens, labels)
    started = time.perf_counter()
    losses = [step(tokens, labels) for tokens, labels in batches]
    losses[-1].block_until_ready()
    return time.perf_counter() - started
