"""What a training that goes on must find in its last checkpoint. Lightning believes whatever stands there."""

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
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from omegaconf import DictConfig
from packaging.version import InvalidVersion, Version
from torch import Tensor

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, CONFIG, LAST
from rnn_imdb.config.identity import EPOCHS, options
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.splits import SPLITS
from rnn_imdb.training.checkpoint import Checkpoint, load, read_checkpoint
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.progress import EpochTable
from rnn_imdb.training.trainer import parameter_dtype

# where a checkpoint says which reviews all splits hold
REVIEWS = "reviews"
_WAY_OUT = f"copy {BEST.name} over it, or start a new run"
_COLUMNS = ("epoch", "seconds", "train/loss", "train/accuracy", "validation/loss", "validation/accuracy")


def digest_of_reviews(data: IMDBDataModule) -> str:
    """A digest of the reviews in all splits, whatever their order."""
    return hashlib.sha256(b"".join(np.sort(data.split(name).ids).tobytes() for name in SPLITS)).hexdigest()


def open_last(folder: Path) -> tuple[Checkpoint, dict[str, Any]]:
    """The last checkpoint in ``folder``, and all that its file holds.

    Raises:
        UserError: it is damaged.
    """
    path = folder / LAST
    try:
        content = load(path)
        return read_checkpoint(path, content), content
    except UserError as error:
        raise UserError(f"{error}; to go on, {_WAY_OUT}") from error


def check(
    folder: Path,
    last: tuple[Checkpoint, dict[str, Any]],
    config: DictConfig,
    data: IMDBDataModule,
    module: SentimentModule,
    trainer: L.Trainer,
) -> None:
    """Prove that this training is the one that goes on from the checkpoint ``last`` of ``folder``.

    Raises:
        UserError: its configuration, reviews, weights or the states of optimizer, loops and callbacks are not those of
            this training, or the best checkpoint beside it is another run's.
    """
    opened, content = last
    _check_config(folder, opened, config)
    _check_reviews(opened, content["rnn_imdb"].get(REVIEWS), data)
    try:
        _check_state(content, opened.step, module, trainer)
    except _Wrong as error:
        raise UserError(
            f"{opened.path} must be a checkpoint that this training can continue, but {error}: {_WAY_OUT}"
        ) from error
    _check_best(folder, content, trainer)


class _Wrong(ValueError):
    """What is wrong with a state."""


def _check_config(folder: Path, opened: Checkpoint, config: DictConfig) -> None:
    there, here = options(opened.config), options(config)
    for name in there | here:
        longer = name == EPOCHS and here[name] > there[name] and there["optimizer.schedule"] == "constant"
        if there.get(name) != here.get(name) and not longer:
            raise UserError(
                f"{folder / CONFIG} must be that of the run, but {name} is {here.get(name)!r} there and "
                f"{there.get(name)!r} in {LAST.name}: put it back, or start a new run"
            )


def _check_reviews(opened: Checkpoint, recorded: str | None, data: IMDBDataModule) -> None:
    training = data.split("train").ids
    # checkpoints of earlier versions do not know the reviews of the other splits
    if (
        not np.array_equal(training, opened.training_ids)
        or data.vocabulary.words != opened.vocabulary.words
        or recorded not in (None, digest_of_reviews(data))
    ):
        known = np.isin(training, opened.training_ids).sum()
        raise UserError(
            f"{opened.path} must go on with its reviews, but this run was trained on other reviews than are found now "
            f"({known:,} of {len(training):,} for training are the same): name its reviews with data.root or "
            "IMDB_ROOT, or start a new run"
        )


def _check_state(content: dict[str, Any], step: int, module: SentimentModule, trainer: L.Trainer) -> None:
    """Compare all that Lightning restores with what this training would write."""
    _check_version(content.get("pytorch-lightning_version"))
    like = copy.deepcopy(module).to(parameter_dtype(trainer))
    weights = ["state_dict"]
    if any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks):  # pyright: ignore[reportAttributeAccessIssue]
        weights.append("current_model_state")
    for name in weights:
        found = content.get(name)
        _compare(name, found, like.state_dict())
        _check_finite(name, found)
        if more := set(found) - set(like.state_dict()):  # pyright: ignore[reportArgumentType] compared above
            raise _Wrong(f"{name} has {', '.join(map(repr, more))} too")
    _check_optimizer(content, step, like)
    _compare("loops.fit_loop", _part(content, "loops", "fit_loop"), trainer.fit_loop.state_dict())
    progress = content["loops"]["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"]
    steps = progress["optimizer"]["step"]["total"]["completed"]
    if steps != step:
        raise _Wrong(f"global_step is {step} after {steps} steps")
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue] Lightning lists them there
        if state := callback.state_dict():
            _compare(f"callbacks.{callback.state_key}", _part(content, "callbacks", callback.state_key), state)
    rows = content["callbacks"][EpochTable().state_key]["rows"]
    for number, row in enumerate(rows):
        _compare(f"row {number} of the table", row, dict.fromkeys(_COLUMNS, 0.0))
        if row["epoch"] != number:
            raise _Wrong(f"row {number} of the table is that of epoch {row['epoch']}")
    if len(rows) - content["epoch"] not in (0, 1):
        raise _Wrong(f"its table has {len(rows)} rows in epoch {content['epoch']}")


def _check_version(found: Any) -> None:
    installed = Version(version("lightning"))
    try:
        written = Version(found)
    except (InvalidVersion, TypeError) as error:
        raise _Wrong(f"{found!r} is no version of Lightning") from error
    if written.major != installed.major or written > installed:
        raise _Wrong(f"Lightning {written} wrote it, and {installed} is installed")


def _check_optimizer(content: dict[str, Any], step: int, like: SentimentModule) -> None:
    # a step shows which state there is for each weight; what a schedule keeps does not depend on its steps
    like.schedule = "constant"
    optimizer: Any = like.configure_optimizers()
    for weight in like.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    wanted = optimizer.state_dict()
    if step == 0:
        wanted["state"] = {}
    _compare("optimizer_states", content.get("optimizer_states"), [wanted])
    _check_finite("optimizer_states", content["optimizer_states"][0]["state"])
    schedules = content.get("lr_schedulers")
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _step: 1.0).state_dict()
    del scheduler["lr_lambdas"]
    constant = content["rnn_imdb"]["config"]["optimizer"].get("schedule", "constant") == "constant"
    if not isinstance(schedules, list) or len(schedules) != int(not constant):
        raise _Wrong(f"lr_schedulers must hold {int(not constant)} states")
    for found in schedules:
        _compare("lr_schedulers", found, scheduler)


def _part(content: dict[str, Any], name: str, key: str) -> Any:
    part = content.get(name)
    if not isinstance(part, dict) or key not in part:
        raise _Wrong(f"{name} has no {key}")
    return part[key]


def _compare(name: str, found: Any, like: Any) -> None:
    """Test that ``found`` can stand where ``like`` would: the same keys, types, shapes and dtypes, counts from 0.

    Where ``like`` is empty or None, it will be filled.
    """
    if not _fits(found, like):
        raise _Wrong(f"{name} is {_shown(found)}, where {_shown(like)} belongs")
    parts = like.items() if isinstance(like, Mapping) else enumerate(like) if isinstance(like, (list, tuple)) else ()
    for key, part in parts:
        if isinstance(found, Mapping) and key not in found:
            raise _Wrong(f"{name} has no {key}")
        _compare(f"{name}.{key}", found[key], part)


def _fits(found: Any, like: Any) -> bool:
    if isinstance(like, Tensor):
        if not isinstance(found, Tensor) or found.shape != like.shape:
            return False
        # a step may be counted in any precision
        return found.dtype == like.dtype or (like.dim() == 0 and found.is_floating_point())
    if isinstance(like, (list, tuple)):
        return isinstance(found, (list, tuple)) and (not like or len(found) == len(like))
    if isinstance(like, (Mapping, bool, str)):
        return isinstance(found, Mapping if isinstance(like, Mapping) else type(like))
    is_number = isinstance(found, (int, float)) and not isinstance(found, bool)
    if isinstance(like, int):
        return is_number and isinstance(found, int) and found >= 0
    if isinstance(like, float):
        return is_number
    return found is None or is_number or isinstance(found, str) or (isinstance(found, Tensor) and not found.dim())


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} and shape {list(value.shape)}"
    return repr(value) if isinstance(value, (int, float, str)) or value is None else f"a {type(value).__name__}"


def _check_finite(name: str, found: Any) -> None:
    for key, value in found.items():
        if isinstance(value, Mapping):
            _check_finite(f"{name}.{key}", value)
        elif isinstance(value, Tensor) and not value.isfinite().all():
            raise _Wrong(f"{name}.{key} holds numbers that are not finite")


def _check_best(folder: Path, content: dict[str, Any], trainer: L.Trainer) -> None:
    """Test that the best checkpoint is of the same history as the last one, and the best that it knows."""
    watching = [
        callback.state_key
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None and callback.filename == BEST.stem
    ]
    scores = [content["callbacks"][key]["best_model_score"] for key in watching]
    if all(score is None for score in scores):
        return
    path = folder / BEST
    problem = "it is not there"
    if path.is_file():
        best = load(path)
        table = EpochTable().state_key
        try:
            mine, other = (content["callbacks"][table]["rows"], best["callbacks"][table]["rows"])
            known = [best["callbacks"][key]["best_model_score"] for key in watching]
            # a kill may come between the two files of an epoch
            common = min(len(mine), len(other))
            same = json.dumps(mine[:common]) == json.dumps(other[:common]) and len(other) <= len(mine) + 1
            if same and (len(other) >= len(mine) or all(map(torch.equal, scores, known))):
                return
            problem = "it has another history" if not same else "a better epoch came later"
        except (KeyError, TypeError) as error:
            problem = f"{error} is missing or wrong"
    raise UserError(
        f"{path} must be the best epoch of the run that {LAST.name} belongs to, but {problem}: put the run's own back, "
        "or start a new run"
    )
