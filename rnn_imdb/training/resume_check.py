"""Check the last checkpoint before a training resumes from it; Lightning restores whatever it finds."""

import copy
import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import WeightAveraging
from omegaconf import DictConfig
from packaging.version import InvalidVersion, Version
from torch import Tensor

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, CONFIG, LAST
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.splits import SPLITS
from rnn_imdb.training.checkpoint import OWN, Checkpoint, open_checkpoint
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.outcome import is_number
from rnn_imdb.training.progress import best_checkpoints
from rnn_imdb.training.resume import differences
from rnn_imdb.training.trainer import parameter_dtype

_WAY_OUT = f"copy {BEST.name} over it, or start a new run"
_COLUMNS = ("epoch", "seconds", "train/loss", "train/accuracy", "validation/loss", "validation/accuracy")


def digest_of_reviews(data: IMDBDataModule) -> str:
    """A digest of the reviews in all splits, whatever their order."""
    return hashlib.sha256(b"".join(np.sort(data.split(name).ids).tobytes() for name in SPLITS)).hexdigest()


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
    except _Wrong as error:
        raise UserError(
            f"{last.path} must be a checkpoint that this training can continue, but {error}: {_WAY_OUT}"
        ) from error
    _check_best(folder, last, trainer)


class _Wrong(ValueError):
    """What is wrong with a state."""


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
    try:
        written = Version(found)
    except (InvalidVersion, TypeError) as error:
        raise _Wrong(f"{found!r} is no version of Lightning") from error
    if written.major != installed.major or written > installed:
        raise _Wrong(f"Lightning {written} wrote it, and {installed} is installed")


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
        raise _Wrong(f"{name} is {_shown(found)}, where {_shown(like)} belongs")
    if isinstance(like, Tensor) and like.isfinite().all() and not found.isfinite().all():
        raise _Wrong(f"{name} holds numbers that are not finite")
    parts = like if isinstance(like, Mapping) else dict(enumerate(like)) if isinstance(like, (list, tuple)) else {}
    for key, part in parts.items():
        if isinstance(like, Mapping) and key not in found:
            raise _Wrong(f"{name} has no {key}")
        _compare(f"{name}.{key}", found[key], part)
    more = set(found) - set(parts) if parts and all(isinstance(part, Tensor) for part in parts.values()) else ()
    if more:
        raise _Wrong(f"{name} has {', '.join(map(repr, more))} too")


def _fits(found: Any, like: Any) -> bool:
    if isinstance(like, Tensor):
        if not isinstance(found, Tensor) or found.shape != like.shape:
            return False
        # a step may be counted in any precision
        return found.dtype == like.dtype or (like.dim() == 0 and found.is_floating_point())
    if isinstance(like, (list, tuple)):
        any_length = like == []
        return isinstance(found, (list, tuple)) and (any_length or len(found) == len(like))
    if isinstance(like, (Mapping, bool, str)):
        return isinstance(found, Mapping if isinstance(like, Mapping) else type(like))
    if isinstance(like, int):
        return is_number(found) and isinstance(found, int) and found >= 0
    if isinstance(like, float):
        return is_number(found)
    return (
        found is None or is_number(found) or isinstance(found, str) or (isinstance(found, Tensor) and not found.dim())
    )


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {list(value.shape)}"
    if isinstance(value, (list, tuple)):
        return "a list" if value == [] else f"a list of {len(value)}"
    return repr(value) if isinstance(value, (int, float, str)) or value is None else f"a {type(value).__name__}"


def _check_progress(last: Checkpoint) -> None:
    """Test that the counts of steps and epochs agree with each other."""
    progress = last.content["loops"]["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"]
    steps = progress["optimizer"]["step"]["total"]["completed"]
    if steps != last.step:
        raise _Wrong(f"global_step is {last.step} after {steps} steps")
    for number, row in enumerate(last.rows):
        _compare(f"row {number} of the table", row, dict.fromkeys(_COLUMNS, 0.0))
    epochs = [row["epoch"] for row in last.rows]
    if epochs not in (list(range(last.epoch)), list(range(last.epoch + 1))):
        raise _Wrong(f"its table has the epochs {epochs} in epoch {last.epoch}")


def _check_best(folder: Path, last: Checkpoint, trainer: L.Trainer) -> None:
    """Test that the best checkpoint is of the same history as the last one, and the best that it knows."""
    watching = [callback.state_key for callback in best_checkpoints(trainer)]
    scores = [last.content["callbacks"][key]["best_model_score"] for key in watching]
    if all(score is None for score in scores):
        return
    problem = "it is not there"
    if (folder / BEST).is_file():
        best = open_checkpoint(folder / BEST)
        try:
            mine, other = last.rows, best.rows
            known = [best.content["callbacks"][key]["best_model_score"] for key in watching]
            # a kill may come between the two files of an epoch
            common = min(len(mine), len(other))
            if len(other) > len(mine) + 1 or json.dumps(mine[:common]) != json.dumps(other[:common]):
                problem = "it has another history"
            elif len(other) >= len(mine) or all(map(torch.equal, scores, known)):
                return
            else:
                problem = "a better epoch came later"
        except (KeyError, TypeError) as error:
            problem = f"{error} is missing or wrong"
    raise UserError(
        f"{folder / BEST} must be the best epoch of the run that {LAST.name} belongs to, but {problem}: put the run's "
        "own back, or start a new run"
    )
