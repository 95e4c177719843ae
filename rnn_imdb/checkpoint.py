"""Checkpoints that stand on their own: what goes in, and how to open them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from rnn_imdb.cache import Split
from rnn_imdb.classifier import Classifier
from rnn_imdb.embedding import frequent_pairs
from rnn_imdb.encoders import make_classifier
from rnn_imdb.errors import UserError
from rnn_imdb.files import find_checkpoint
from rnn_imdb.schema import without_removed
from rnn_imdb.text import Vocabulary
from rnn_imdb.versions import versions

# raise when what a checkpoint carries changes its meaning
FORMAT = 1
_PREFIX = "classifier."


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        path: the file.
        config: the training's configuration, as plain dictionaries.
        vocabulary: the words of the model.
        pairs: the pairs of words that have vectors.
        training_ids: ids of the reviews it was trained on, ``rnn_imdb.cache.Split.ids``.
        epoch: number of the epoch that it ends, from 0.
        step: number of training steps before it.
        weights: state of the classifier.
    """

    path: Path
    config: dict[str, Any]
    vocabulary: Vocabulary
    pairs: Tensor
    training_ids: np.ndarray
    epoch: int
    step: int
    weights: dict[str, Tensor]

    def classifier(self) -> Classifier:
        """The model with its weights, in evaluation mode on the CPU."""
        classifier = build_classifier(self.config, len(self.vocabulary))
        classifier.pairs = self.pairs
        try:
            classifier.load_state_dict(self.weights)
        except RuntimeError as error:
            raise UserError(f"{self.path} must hold weights that fit its configuration, but {error}") from error
        return classifier.eval()


def build_classifier(config: Mapping[str, Any], vocabulary_size: int) -> Classifier:
    """A new classifier of the group ``model``; a small corpus may have fewer words than the configuration allows."""
    return make_classifier(
        **config["model"], vocabulary_size=vocabulary_size, sequence_length=config["data"]["sequence_length"]
    )


def record(config: DictConfig, vocabulary: Vocabulary, training: Split) -> dict[str, Any]:
    """What a checkpoint carries beside Lightning's state: tensors and plain Python values."""
    return {
        "format": FORMAT,
        "config": OmegaConf.to_container(config, resolve=True),
        "vocabulary": vocabulary.words,
        "pairs": frequent_pairs(training.tokens, config.model.bigrams),
        # torch stores no unsigned 64-bit tensors safely in every version, and only equality counts
        "training_ids": torch.from_numpy(training.ids.view(np.int64).copy()),
        "versions": versions(),
    }


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint or the best one of a run folder, running no code from the file.

    Raises:
        UserError: there is none, or it is no checkpoint of this project.
    """
    path = find_checkpoint(path)
    remedy = "name a checkpoint that python -m rnn_imdb.train wrote"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{path} must be a checkpoint of plain values and tensors ({reason}): {remedy}") from error
    try:
        own = content["rnn_imdb"]
        if own["format"] != FORMAT:
            raise UserError(
                f"{path} must be of checkpoint format {FORMAT}, got {own['format']!r}, which rnn_imdb "
                f"{own['versions']['rnn_imdb']} wrote: use that version, or train again"
            )
        weights = {
            name.removeprefix(_PREFIX): value
            for name, value in content["state_dict"].items()
            if name.startswith(_PREFIX)
        }
        ids = own["training_ids"].numpy().view(np.uint64)
        config = without_removed(own["config"])
        # earlier versions wrote none
        has_pairs = config["model"].get("bigrams", 0) > 0
        return Checkpoint(
            path,
            config,
            Vocabulary(own["vocabulary"]),
            own["pairs"] if has_pairs else torch.empty(0, dtype=torch.int64),
            ids,
            content["epoch"],
            content["global_step"],
            weights,
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{path} must be a checkpoint of rnn_imdb, but {error} is missing or wrong: {remedy}"
        ) from error
