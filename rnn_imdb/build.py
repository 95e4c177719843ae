"""From a configuration to the objects of a training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from hydra.utils import instantiate
from omegaconf import DictConfig

from rnn_imdb.callbacks.bars import Bars
from rnn_imdb.checkpoint import build_classifier
from rnn_imdb.data import IMDBDataModule
from rnn_imdb.errors import UserError
from rnn_imdb.module import SentimentModule
from rnn_imdb.text import Vocabulary


def build_data(data: Mapping[str, Any], *, seed: int = 0, vocabulary: Vocabulary | None = None) -> IMDBDataModule:
    """The data module of the group ``data``."""
    return IMDBDataModule(**data, seed=seed, vocabulary=vocabulary)


def build_module(config: Mapping[str, Any], vocabulary_size: int) -> SentimentModule:
    """The Lightning module of the groups ``model`` and ``optimizer``."""
    options = dict(config["optimizer"])
    return SentimentModule(
        build_classifier(config, vocabulary_size),
        optimizer=options.pop("name"),
        learning_rate=options.pop("learning_rate"),
        optimizer_options=options,
    )


def build_trainer(config: DictConfig, folder: Path, callbacks: list[L.Callback]) -> L.Trainer:
    """Lightning's Trainer of the groups ``trainer``, ``callbacks`` and ``logger``, writing into ``folder``.

    Raises:
        UserError: the Trainer, a callback or a logger refuses its arguments.
    """
    arguments = dict(config.trainer)
    bars = arguments.pop("enable_progress_bar")
    try:
        return L.Trainer(
            **arguments,
            logger=[instantiate(entry, save_dir=str(folder)) for entry in config.logger.values()],
            callbacks=[
                *([Bars()] if bars else []),
                *callbacks,
                *(instantiate(entry) for entry in config.callbacks.values()),
            ],
            default_root_dir=folder,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except Exception as error:
        raise UserError(
            f"trainer, callbacks and logger must be arguments that Lightning accepts, got: {error}", exit_code=2
        ) from error
