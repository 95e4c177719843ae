"""Check the last checkpoint before a training resumes from it; Lightning restores whatever it finds."""

import copy
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig
from packaging.version import Version
from torch import Tensor

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, CONFIG, LAST
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.training.checkpoint import OWN, Checkpoint, open_checkpoint
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.outcome import is_number
from rnn_imdb.training.progress import best_epoch
from rnn_imdb.training.resume import differences
from rnn_imdb.training.saving import digest_of_reviews
from rnn_imdb.training.trainer import parameter_dtype

_WAY_OUT = f"copy {BEST.name} over it, or start a new run"
_COLUMNS = ("epoch", "seconds", "train/loss", "train/accuracy", "validation/loss", "validation/accuracy")


def open_last(folder: Path) -> Checkpoint:
    """Open the last checkpoint in ``folder``.

    Raises:
        UserError: it is damaged.
    """
    try:
        return open_checkpoint(folder / LAST)
    except UserError as error:
        raise UserError(f"{error}; to go on, {_WAY_OUT}") from error


def check_last(
    last: Checkpoint,
    folder: Path,
    config: DictConfig,
    data: IMDBDataModule,
    module: SentimentModule,
    trainer: L.Trainer,
) -> None:
    """Prove that this training is the one whose last checkpoint, in ``folder``, is ``last``.

    Raises:
        UserError: its configuration, reviews, weights or the states of optimizer, loops and callbacks are not those of
            this training, or the best checkpoint beside it is another run's.
    """
    for name, there, here in differences(last.config, config):
        raise UserError(
            f"{folder / CONFIG} must be that of the run, but {name} is {here!r} there and {there!r} in {LAST.name}: "
            "put it back, or start a new run"
        )
    _check_reviews(last, data)
    try:
        _check_version(last.content.get("pytorch-lightning_version"))
        for part, like in _like(last, module, trainer).items():
            _compare(part, last.content.get(part), like)
        _check_progress(last)
    except ValueError as error:
        raise UserError(
            f"{last.path} must be a checkpoint that this training can continue, but {error}: {_WAY_OUT}"
        ) from error
    _check_best(folder, last, trainer)


def _check_reviews(last: Checkpoint, data: IMDBDataModule) -> None:
    training = data.split("train").ids
    same = np.array_equal(training, last.training_ids) and data.vocabulary.words == last.vocabulary.words
    # checkpoints of earlier versions do not know the reviews of the other splits
    if not same or last.content[OWN].get("reviews") not in (None, digest_of_reviews(data)):
        known = np.isin(training, last.training_ids).sum()
        raise UserError(
            f"{last.path} must go on with its reviews, but this run was trained on other reviews than are found now "
            f"({known:,} of {len(training):,} for training are the same): name its reviews with data.root or "
            "IMDB_ROOT, or start a new run"
        )


def _check_version(found: Any) -> None:
    installed = Version(version("lightning"))
    written = Version(str(found))
    if written.major != installed.major or written > installed:
        raise ValueError(f"Lightning {written} wrote it, and {installed} is installed")


def _like(last: Checkpoint, module: SentimentModule, trainer: L.Trainer) -> dict[str, Any]:
    """What this training would write, of all that Lightning restores."""
    like = copy.deepcopy(module).to(parameter_dtype(trainer))
    # a step shows the optimizer's state of each weight; that of a schedule does not depend on its kind
    like.schedule = "constant"
    optimizer: Any = like.configure_optimizers()
    for weight in like.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    state = optimizer.state_dict() | ({} if last.step else {"state": {}})
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _step: 1.0).state_dict()
    del schedule["lr_lambdas"]
    callbacks: list[L.Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue] Lightning lists them there
    averaged = any(isinstance(callback, WeightAveraging) for callback in callbacks)
    return {
        "state_dict": like.state_dict(),
        **({"current_model_state": like.state_dict()} if averaged else {}),
        "optimizer_states": (state,),
        "lr_schedulers": () if last.config["optimizer"]["schedule"] == "constant" else (schedule,),
        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
        "callbacks": {each.state_key: each.state_dict() for each in callbacks if each.state_dict()},
    }


def _compare(name: str, found: Any, like: Any) -> None:
    """Test that ``found`` can stand where ``like`` would: the same keys, types, shapes and dtypes, counts from 0.

    An empty list or dictionary and a None are filled in the course of a training; a tuple has its length.
    """
    if not _fits(found, like):
        raise ValueError(f"{name} is {_shown(found)}, where {_shown(like)} belongs")
    if isinstance(like, Tensor) and like.isfinite().all() and not found.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite")
    parts = like if isinstance(like, Mapping) else dict(enumerate(like)) if isinstance(like, (list, tuple)) else {}
    for key, part in parts.items():
        if isinstance(like, Mapping) and key not in found:
            raise ValueError(f"{name} has no {key}")
        _compare(f"{name}.{key}", found[key], part)
    more = set(found) - set(parts) if parts and all(isinstance(part, Tensor) for part in parts.values()) else ()
    if more:
        raise ValueError(f"{name} has {', '.join(map(repr, more))} too")


def _fits(found: Any, like: Any) -> bool:
    match like:
        case Tensor():
            same = isinstance(found, Tensor) and found.shape == like.shape
            # a step may be counted in any precision
            return same and (found.dtype == like.dtype or (like.dim() == 0 and found.is_floating_point()))
        case Mapping():
            return isinstance(found, Mapping)
        case list() | tuple():
            return isinstance(found, (list, tuple)) and (like == [] or len(found) == len(like))
        case bool() | str():
            return type(found) is type(like)
        case int():
            return is_number(found) and isinstance(found, int) and found >= 0
        case float():
            return is_number(found)
    # filled in the course of a training
    return is_number(found) or isinstance(found, (str, NoneType)) or (isinstance(found, Tensor) and not found.dim())


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    return "a dict" if isinstance(value, Mapping) else repr(value)


def _check_progress(last: Checkpoint) -> None:
    """Test that the counts of steps and epochs agree with each other."""
    progress = last.content["loops"]["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"]
    steps = progress["optimizer"]["step"]["total"]["completed"]
    if steps != last.step:
        raise ValueError(f"global_step is {last.step} after {steps} steps")
    _compare("table", last.rows, [dict.fromkeys(_COLUMNS, 0.0)] * len(last.rows))
    epochs = [row["epoch"] for row in last.rows]
    if epochs not in (list(range(last.epoch)), list(range(last.epoch + 1))):
        raise ValueError(f"its table has the epochs {epochs} in epoch {last.epoch}")


def _check_best(folder: Path, last: Checkpoint, trainer: L.Trainer) -> None:
    """Test that the best checkpoint is of the same history as the last one, and of its best epoch."""
    if not last.rows:
        return
    problem = "it is not there"
    if (folder / BEST).is_file():
        mine, other = last.rows, open_checkpoint(folder / BEST).rows
        # a kill may come between the two files of an epoch
        common = min(len(mine), len(other))
        if len(other) > len(mine) + 1 or json.dumps(mine[:common]) != json.dumps(other[:common]):
            problem = "it has another history"
        elif len(other) < len(mine) and best_epoch(mine, trainer) != len(other) - 1:
            problem = "a better epoch came later"
        else:
            return
    raise UserError(
        f"{folder / BEST} must be the best epoch of the run that {LAST.name} belongs to, but {problem}: put the run's "
        "own back, or start a new run"
    )
