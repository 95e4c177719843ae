"""What a configuration may hold: types and rules. The values stand in ``conf/``. Imports nothing heavy.

Only an option that came later has a value here: the one that earlier runs, which do not name it, ran with.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import MISSING, ListConfig

from rnn_imdb.common.errors import is_address
from rnn_imdb.config import names


def conf_folder() -> Path:
    """The folder of YAML files, which a checkout has beside the package, with a link inside it."""
    return (Path(__file__).parents[1] / "conf").resolve()


class Rule(NamedTuple):
    """What a value must be, in words and as a test."""

    text: str
    holds: Callable[[Any], bool]


def _ruled(text: str, holds: Callable[[Any], bool], *, earlier: Any = MISSING) -> Any:
    return field(default=earlier, metadata={"rule": Rule(text, holds)})


def _one_of(*valid: str, earlier: str = MISSING, more: str = "") -> Any:
    return _ruled(f"one of {', '.join(valid)}{more}", lambda value: value in valid, earlier=earlier)


def _part(*valid: str, earlier: str = MISSING) -> Any:
    text = f"one of {', '.join(valid)}, or your own as module.Name"
    return _ruled(text, lambda value: value in valid or is_address(value), earlier=earlier)


def _between(low: float, high: float, *, earlier: Any = MISSING) -> Any:
    kind = "a whole number" if isinstance(low, int) else "a number"
    return _ruled(f"{kind} from {low:,} to {high:,}", lambda value: low <= value <= high, earlier=earlier)


def _positive(high: float) -> Any:
    return _ruled(f"a number above 0, at most {high:,}", lambda value: 0 < value <= high)


def _null_or(text: str, holds: Callable[[Any], bool], *, earlier: Any = MISSING) -> Any:
    return _ruled(f"null, or {text}", lambda value: value is None or holds(value), earlier=earlier)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _are_objectives(value: Any) -> bool:
    given = value if isinstance(value, (list, ListConfig)) else [value]
    return len(given) > 0 and all(name in names.OBJECTIVES for name in given)


def _is_devices(value: Any) -> bool:
    """Whether Lightning knows it: -1 means all devices, ``"2"`` two of them, and ``"2,"`` the third."""
    if isinstance(value, str):
        return value == "auto" or re.fullmatch(r"-1|[1-9]\d*|\d+(, *\d+)*,?", value) is not None
    if isinstance(value, (list, ListConfig)):
        return all(type(each) is int and each >= 0 for each in value) and 0 < len(value) == len(set(value))
    return _is_count(value) or value == -1


_words = partial(_null_or, "a whole number from 1 to 20,000", lambda value: 1 <= value <= 20_000, earlier=None)
_dropout = partial(_ruled, "a number from 0 to below 1", lambda value: 0 <= value < 1, earlier=0.0)
_counts = partial(_ruled, "whole numbers from 1", lambda value: len(value) > 0 and min(value) > 0)
_limit = partial(
    _ruled,
    "a number of batches from 1, or a share above 0.0, at most 1.0",
    lambda value: _is_count(value) or (isinstance(value, float) and 0 < value <= 1),
)


def is_folder_name(name: str) -> bool:
    """Whether ``name`` is a folder's within another: no way out of it, and no option of a command."""
    return name not in ("", ".", "..") and name[0] not in "-~" and "/" not in name and name.isprintable()


@dataclass
class DataConfig:
    """Arguments of ``rnn_imdb.data.module.IMDBDataModule``."""

    source: str = _part(*names.SOURCES)
    root: str | None = MISSING
    reviews_per_class: int = _between(10, 1_000_000)
    cache_dir: str | None = MISSING
    # indices are stored in 16 bits
    vocabulary_size: int = _between(3, 65_536)
    sequence_length: int = _between(1, 20_000)
    padding: str = _one_of("pre", "post")
    truncation: str = _one_of("pre", "post", "both")
    first_words: int | None = _words()
    last_words: int | None = _words()
    split_seed: int = _between(0, 2**32 - 1)
    split_by: str = _one_of("review", "neighbours", earlier="review")
    batch_size: int = _between(1, 25_000)
    evaluation_batch_size: int = _between(1, 25_000)
    text_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    threshold: float | None = None


@dataclass
class ModelConfig:
    """Arguments of ``rnn_imdb.model.make_classifier``."""

    state_dim: int = _between(1, 4096)
    embedding_dim: int = _between(1, 4096)
    readout: str = _part(*names.READOUTS)
    bias: bool = MISSING
    mask_padding: bool = MISSING
    scan: str = _one_of("auto", *names.SCANS)
    encoder: str = _one_of(*names.ENCODERS, earlier="rnn")
    activation: str = _one_of(*names.ACTIVATIONS, earlier="tanh")
    init: str = _one_of(*names.INITIALIZERS, earlier="keras")
    spectral_radius: float | None = _null_or(
        "a number above 0, at most 1,000", lambda value: 0 < value <= 1000, earlier=None
    )
    kernel_size: int = _between(1, 100, earlier=5)
    bigrams: int = _between(0, 1_000_000, earlier=0)
    word_dropout: float = _dropout()
    embedding_dropout: float = _dropout()
    head_dropout: float = _dropout()
    bidirectional: bool = False
    recurrent: bool = True


@dataclass
class OptimizerConfig:
    """What every training has; the rest is an argument of the class of that name in ``torch.optim``."""

    name: str = _one_of(*names.OPTIMIZERS, more=", or with optimizer=own a class as module.Name")
    learning_rate: float = _positive(100.0)
    weight_decay: float = _between(0.0, 100.0)
    schedule: str = _part("constant", *names.SCHEDULES, earlier="constant")
    label_smoothing: float = _between(0.0, 0.5, earlier=0.0)
    target_replication: float = _between(0.0, 1.0, earlier=0.0)


@dataclass
class RMSpropConfig(OptimizerConfig):
    """Arguments of ``rnn_imdb.training.optimizers.RMSprop``."""

    alpha: float = _between(0.0, 1.0)
    eps: float = _positive(1.0)
    momentum: float = _between(0.0, 1.0)


@dataclass
class AdamConfig(OptimizerConfig):
    """Arguments of ``torch.optim.Adam`` and ``AdamW``."""

    betas: list[float] = _ruled(
        "two numbers from 0 to below 1", lambda value: len(value) == 2 and all(0 <= beta < 1 for beta in value)
    )
    eps: float = _positive(1.0)
    fused: bool | None = None


@dataclass
class SGDConfig(OptimizerConfig):
    """Arguments of ``torch.optim.SGD``."""

    momentum: float = _between(0.0, 1.0)
    nesterov: bool = MISSING


@dataclass
class OwnConfig(OptimizerConfig):
    """A class outside of the package, whose ``options`` stand beside its ``lr`` and ``weight_decay``."""

    name: str = _ruled("a class as module.Name", is_address)
    options: dict[str, Any] = MISSING


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer; ``+trainer.NAME=VALUE`` passes on those in ``lightning_options.PASSED_ON``.

    Any stands where several types are allowed: OmegaConf 2.3 cannot merge a union that is still missing.
    """

    accelerator: str = MISSING
    devices: Any = _ruled(
        "auto, -1, a number of devices from 1, or a list of their numbers, as [0] or '0,1'", _is_devices
    )
    # what keeps results in other processes, or parts of a checkpoint, has no run folder to show for it
    strategy: str = _one_of("auto", "ddp", "ddp_find_unused_parameters_true", "ddp_find_unused_parameters_false")
    precision: str = _one_of("32-true", "64-true", "bf16-true", "16-true", "bf16-mixed", "16-mixed")
    max_epochs: int = _between(1, 100_000)
    gradient_clip_val: float | None = _null_or("a number above 0", lambda value: value > 0)
    accumulate_grad_batches: int = _between(1, 25_000)
    limit_train_batches: Any = _limit()
    limit_val_batches: Any = _limit()
    limit_test_batches: Any = _limit()
    fast_dev_run: Any = _ruled(
        "true, false, or a number of batches from 1", lambda value: isinstance(value, bool) or _is_count(value)
    )
    log_every_n_steps: int = _between(1, 1_000_000)
    enable_progress_bar: bool = MISSING


@dataclass
class SweepConfig:
    """What a sweep is called, what it goes over, and what its jobs are told."""

    name: str | None = _null_or("a folder's name, without slashes", is_folder_name)
    axes: dict[str, Any] = MISSING
    fail_fast: bool = MISSING
    objective: Any = _ruled(
        f"one of {', '.join(names.OBJECTIVES)}, or a list of them", _are_objectives, earlier="validation/accuracy"
    )
    keep: str = _one_of("best", "last", "both", "none", earlier="both")
    workers: Any = _ruled(
        "auto or a whole number from 1", lambda value: value == "auto" or _is_count(value), earlier="auto"
    )
    swept: list[str] = MISSING
    jobs: int = MISSING


@dataclass
class TrainConfig:
    """The configuration of ``rnn_imdb.train``."""

    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    trainer: TrainerConfig = MISSING
    callbacks: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
    sweep: SweepConfig = MISSING
    seed: int = _between(0, 2**32 - 1)
    test: bool = MISSING
    resume: str | None = MISSING


@dataclass
class EvaluateConfig:
    """The configuration of ``rnn_imdb.evaluate``."""

    data: Any = MISSING
    checkpoint: str = MISSING
    split: str = _one_of("train", "validation", "test", "all")
    output: str | None = MISSING
    accelerator: str = MISSING
    classes: list[str] = MISSING


# what an evaluation may change about the data of the training, each with the same rule; null changes nothing
EvaluationDataConfig = make_dataclass(
    "EvaluationDataConfig",
    [
        (item.name, item.type | None, field(default=MISSING, metadata={**item.metadata, "null": True}))  # pyright: ignore[reportOperatorIssue] no type is a text here
        for item in fields(DataConfig)
        if item.name not in ("vocabulary_size", "batch_size")
    ],
)


@dataclass
class BenchmarkConfig:
    """The configuration of ``rnn_imdb.benchmark``."""

    data: DataConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    trainer: TrainerConfig = MISSING
    callbacks: dict[str, Any] = MISSING
    logger: dict[str, Any] = MISSING
    epoch: bool = MISSING
    batch_sizes: list[int] = _counts()
    state_dims: list[int] = _counts()
    time: int = _between(1, 20_000)
    seconds: float = _positive(600.0)
    repeats: int = _between(1, 100)
    output: str | None = MISSING


_GROUPS = (DataConfig, ModelConfig, RMSpropConfig, AdamConfig, SGDConfig, OwnConfig, TrainerConfig, SweepConfig)
# as schema/NAME in conf/
SCHEMAS: dict[str, Any] = {
    schema.__name__.removesuffix("Config").lower(): schema
    for schema in (*_GROUPS, TrainConfig, EvaluateConfig, EvaluationDataConfig, BenchmarkConfig)
}
# options that may name a class or function outside of the package
PARTS = ("data.source", "model.readout", "optimizer.name", "optimizer.schedule")
# what an earlier version knew, with the value that had no effect
REMOVED = {"model": {"bigram_buckets": 0}}


def later_options() -> dict[str, dict[str, Any]]:
    """The options that came later, by group, with the value that earlier runs had."""
    return {
        group: {item.name: item.default for item in fields(schema) if item.default != MISSING}
        for group, schema in (("data", DataConfig), ("model", ModelConfig), ("optimizer", AdamConfig))
    }


def option_names(schema: Any) -> list[str]:
    """The options of a schema; none where ``schema`` is something else."""
    return [item.name for item in fields(schema)] if is_dataclass(schema) else []
