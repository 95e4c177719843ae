"""From a configuration to the objects of a training."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import lightning.pytorch as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import DeviceStatsMonitor, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from omegaconf import DictConfig
from torch.utils.tensorboard import SummaryWriter

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST
from rnn_imdb.common.processes import check_processes, slurm
from rnn_imdb.config.lightning_options import CALLBACKS
from rnn_imdb.config.names import FIGURES
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.text import Vocabulary
from rnn_imdb.training import lean
from rnn_imdb.training.checkpoint import build_classifier
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.progress import Bars
from rnn_imdb.training.saving import AtomicCheckpointIO


def build_data(data: Mapping[str, Any], *, seed: int = 0, vocabulary: Vocabulary | None = None) -> IMDBDataModule:
    """The data module of the group ``data``."""
    return IMDBDataModule(**data, seed=seed, vocabulary=vocabulary)


def build_module(config: Mapping[str, Any], vocabulary_size: int) -> SentimentModule:
    """The Lightning module of the groups ``model`` and ``optimizer``."""
    return SentimentModule.with_group(build_classifier(config, vocabulary_size), config["optimizer"])


# what Lightning raises where it refuses its arguments, and Hydra where a class does
REFUSALS = (MisconfigurationException, InstantiationException, ImportError, RuntimeError, TypeError, ValueError)


@contextmanager
def refusals(*errors: type[Exception]) -> Iterator[None]:
    """Turn ``errors``, by which Lightning or Hydra refuse their arguments, into a UserError."""
    try:
        yield
    except errors as error:
        raise UserError(
            "trainer, callbacks and logger must have arguments that Lightning accepts, but it says: "
            f"{error.__cause__ or error}",
            exit_code=2,
        ) from error


# plain types of arguments, and how a configuration gives them
_PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", NoneType: "null"}


def make(config: DictConfig, group: str, further: Callable[[type], dict[str, Any]] = lambda _: {}) -> list[Any]:
    """The objects of a group such as ``callbacks``, whose entries name a class and its arguments; null means off.

    ``further`` gives arguments that no entry names, for each class.

    Raises:
        UserError: an entry names no class, or gives a list for a number.
    """
    made = []
    for name, entry in config[group].items():
        if entry is None:
            continue
        if not isinstance(entry, DictConfig) or "_target_" not in entry:
            raise UserError(
                f"{group}.{name} must have a _target_, the class to make, or be null, got {entry}: {group} has "
                f"{', '.join(map(str, config[group]))}",
                exit_code=2,
            )
        with refusals(*REFUSALS):
            kind = get_class(entry._target_)
            annotations = {key: each.annotation for key, each in inspect.signature(kind).parameters.items()}
            if issubclass(kind, TensorBoardLogger):
                # it passes the rest on to a writer, which is only made after the first epoch
                rest = {str(option): None for option in entry if option not in annotations and option != "_target_"}
                arguments = inspect.signature(SummaryWriter).bind_partial(**rest).signature.parameters
                annotations |= {key: type(each.default) for key, each in arguments.items()}
            for option, annotation in annotations.items():
                if option in entry:
                    _check_type(f"{group}.{name}.{option}", annotation, entry[option])
            made.append(instantiate(entry, **further(kind)))
    return made


def _check_type(key: str, annotation: Any, value: Any) -> None:
    """Test a value against the annotation of its argument; what is no plain type is left to the class."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    # a whole number is a number too, but True, which is one to Python, is not
    fits = type(value) in kinds or (type(value) is int and float in kinds)
    if not fits and all(kind in _PLAIN for kind in kinds):
        raise UserError(f"{key} must be {' or '.join(_PLAIN[kind] for kind in kinds)}, got {value!r}", exit_code=2)


def check_callbacks(callbacks: Sequence[L.Callback], loggers: Sequence[Logger]) -> None:
    """Refuse callbacks that no run can have, that watch a figure which is not there, share a file or lack a logger.

    Raises:
        UserError: there is one.
    """
    for callback in callbacks:
        name = type(callback).__name__
        for refused, reason in CALLBACKS.items():
            if isinstance(callback, getattr(lightning_callbacks, refused)):
                raise UserError(f"the callback {name} cannot be given: {reason}", exit_code=2)
        if isinstance(callback, (LearningRateMonitor, DeviceStatsMonitor)) and not loggers:
            raise UserError(f"{name} must have a logger to write to, got none: give logger=tensorboard", exit_code=2)
        if isinstance(callback, EarlyStopping) and (callback.patience < 0 or not math.isfinite(callback.min_delta)):
            raise UserError(
                f"{name} must have a patience from 0 and a finite min_delta, got {callback.patience} and "
                f"{abs(callback.min_delta)}",
                exit_code=2,
            )
        if not isinstance(callback, (EarlyStopping, ModelCheckpoint)) or callback.monitor is None:
            continue
        figures = dict(FIGURES)
        if isinstance(callback, EarlyStopping) and callback._check_on_train_epoch_end is False:
            # those of the training come after the validation
            figures = {figure: mode for figure, mode in figures.items() if figure.startswith("validation/")}
        if figures.get(callback.monitor) != callback.mode:
            valid = ", ".join(f"{figure} with mode={mode}" for figure, mode in figures.items())
            raise UserError(
                f"{name} must have as its monitor {valid}, got {callback.monitor} with mode={callback.mode}",
                exit_code=2,
            )
    checkpoints = [callback for callback in callbacks if isinstance(callback, ModelCheckpoint)]
    files = [(callback.dirpath, callback.filename) for callback in checkpoints]
    if len(set(files)) < len(files) or any(callback.save_last for callback in checkpoints):
        raise UserError(
            "each ModelCheckpoint must have a filename of its own, and none save_last, for last.ckpt is there already",
            exit_code=2,
        )


def chosen_accelerator(given: str) -> str:
    """``given``, but for ``auto`` the CPU in place of Apple's GPU, which runs a recurrence step by step."""
    if given != "auto" or torch.cuda.is_available() or not torch.backends.mps.is_available():
        return given
    print("accelerator=auto takes the CPU, which is faster at a recurrence than this GPU (accelerator=mps)", flush=True)
    return "cpu"


def build_trainer(
    config: DictConfig,
    folder: Path,
    callbacks: list[L.Callback],
    *,
    checkpoints: Path | None = None,
    purge_step: int | None = None,
) -> L.Trainer:
    """Lightning's Trainer of the groups ``trainer``, ``callbacks`` and ``logger``, writing into ``folder``.

    ``checkpoints`` is where checkpoints go, by default the folder in ``folder``.
    ``purge_step`` is the first step that will be done again: TensorBoard forgets what it was told from there on.

    Raises:
        UserError: one of them refuses its arguments.
    """
    arguments = {"profiler": lean.NoProfiler(), **config.trainer}
    arguments["accelerator"] = chosen_accelerator(config.trainer.accelerator)
    bars = [Bars()] if config.trainer.enable_progress_bar else []
    configured = make(config, "callbacks")

    def of_the_run(kind: type) -> dict[str, Any]:
        of_tensorboard = {"purge_step": purge_step} if issubclass(kind, TensorBoardLogger) else {}
        return {"save_dir": str(folder), **of_tensorboard}

    loggers = make(config, "logger", of_the_run)
    check_callbacks(configured, loggers)
    for callback in configured:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
            callback.dirpath = str((checkpoints or folder / BEST.parent).absolute())
    with refusals(*REFUSALS):
        trainer = lean.make_trainer(
            **arguments,
            logger=loggers,
            plugins=[AtomicCheckpointIO(), *slurm()],
            callbacks=[*bars, *callbacks, *configured],
            default_root_dir=folder,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    check_processes(trainer)
    return trainer


def parameter_dtype(trainer: L.Trainer) -> torch.dtype:
    """The dtype that ``trainer.precision`` gives to parameters, and so to the recurrence."""
    like_ours = torch.nn.ParameterList([torch.zeros(1)])
    return next(trainer.precision_plugin.convert_module(like_ours).parameters()).dtype
