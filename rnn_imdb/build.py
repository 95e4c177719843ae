"""From a configuration to the objects of a training."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import PassThroughProfiler
from omegaconf import DictConfig

from rnn_imdb.callbacks.bars import Bars
from rnn_imdb.checkpoint import build_classifier
from rnn_imdb.checkpoint_io import AtomicCheckpointIO
from rnn_imdb.classifier import Classifier
from rnn_imdb.data import IMDBDataModule
from rnn_imdb.errors import UserError
from rnn_imdb.files import BEST
from rnn_imdb.module import SentimentModule
from rnn_imdb.processes import check_processes, slurm
from rnn_imdb.text import Vocabulary


def build_data(data: Mapping[str, Any], *, seed: int = 0, vocabulary: Vocabulary | None = None) -> IMDBDataModule:
    """The data module of the group ``data``."""
    return IMDBDataModule(**data, seed=seed, vocabulary=vocabulary)


def build_module(config: Mapping[str, Any], vocabulary_size: int) -> SentimentModule:
    """The Lightning module of the groups ``model`` and ``optimizer``."""
    return with_optimizer(build_classifier(config, vocabulary_size), config["optimizer"])


def with_optimizer(classifier: Classifier, optimizer: Mapping[str, Any]) -> SentimentModule:
    """The Lightning module of a classifier and the group ``optimizer``."""
    options = dict(optimizer)
    return SentimentModule(
        classifier,
        optimizer=options.pop("name"),
        learning_rate=options.pop("learning_rate"),
        schedule=options.pop("schedule"),
        label_smoothing=options.pop("label_smoothing"),
        optimizer_options=options,
    )


class NoProfiler(PassThroughProfiler):
    """Gives one empty context to all: Lightning's own makes forty a step, one for each hook of each callback."""

    _context = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # pyright: ignore[reportIncompatibleMethodOverride] entered all the same
        return self._context


def leave_out_empty_hooks(callback: L.Callback) -> None:
    """Take away the hooks of each batch that ``callback`` does not fill: sixty a step, for which Lightning prepares."""
    for name in dir(L.Callback):
        empty = getattr(L.Callback, name)
        of_a_batch = name.startswith("on_") and any(word in name for word in ("batch", "backward", "before"))
        if of_a_batch and getattr(callback, name) == empty.__get__(callback):
            setattr(callback, name, None)


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
    arguments = dict(config.trainer)
    arguments.setdefault("profiler", NoProfiler())
    bars = [Bars()] if arguments.pop("enable_progress_bar") else []
    with refusals(MisconfigurationException, InstantiationException, RuntimeError, TypeError, ValueError):
        configured = [instantiate(entry) for entry in config.callbacks.values()]
        for callback in configured:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str((checkpoints or folder / BEST.parent).absolute())
        loggers = [instantiate(entry, save_dir=str(folder)) for entry in config.logger.values()]
        for logger in loggers:
            if isinstance(logger, TensorBoardLogger):
                # arguments of its SummaryWriter, which is made when first used
                logger._kwargs["purge_step"] = purge_step
        trainer = L.Trainer(
            **arguments,
            logger=loggers,
            plugins=[AtomicCheckpointIO(), *slurm()],
            callbacks=[*bars, *callbacks, *configured],
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    check_processes(trainer)
    # rnn_imdb.interrupts answers signals; Lightning would wait for the other processes within a handler
    trainer._signal_connector.register_signal_handlers = lambda: None
    for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue] Lightning lists them there
        leave_out_empty_hooks(callback)
    return trainer


def parameter_dtype(trainer: L.Trainer) -> torch.dtype:
    """The dtype that ``trainer.precision`` gives to parameters, and so to the recurrence."""
    like_ours = torch.nn.ParameterList([torch.zeros(1)])
    return next(trainer.precision_plugin.convert_module(like_ours).parameters()).dtype
