"""Checkpoints that stand on their own: what goes in, and how to open them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from rnn_imdb.cache import Split
from rnn_imdb.checkpoint_io import load
from rnn_imdb.classifier import Classifier
from rnn_imdb.config import check, restore
from rnn_imdb.embedding import frequent_pairs
from rnn_imdb.encoders import make_classifier
from rnn_imdb.errors import UserError
from rnn_imdb.files import find_checkpoint
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
        """The model with its weights, in evaluation mode on the CPU.

        Raises:
            UserError: the weights are not those of the configuration.
        """
        # without memory at first: a configuration may ask for more than any machine has; no shape rests on the radius
        model = self.config["model"] | {"spectral_radius": None}
        with torch.device("meta"):
            planned = build_classifier(self.config | {"model": model}, len(self.vocabulary)).state_dict()
        for name in planned | self.weights:
            there, here = (tuple(of[name].shape) if name in of else "missing" for of in (planned, self.weights))
            if there != here:
                raise UserError(
                    f"{self.path} must hold weights that fit its configuration, but {name} is {here} and should be "
                    f"{there}: name a checkpoint that python -m rnn_imdb.train wrote"
                )
        classifier = build_classifier(self.config, len(self.vocabulary))
        classifier.pairs = self.pairs
        classifier.load_state_dict(self.weights)
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
    return read_checkpoint(path, load(path))


def read_checkpoint(path: Path, content: Any) -> Checkpoint:
    """The checkpoint with all that the file ``path`` holds.

    Raises:
        UserError: it is no checkpoint of this project, or a value in it is none that a training writes.
    """
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
        words, ids, numbers = own["vocabulary"], own["training_ids"], (content["epoch"], content["global_step"])
        config = _checked(own["config"])
        # earlier versions wrote none
        pairs = own["pairs"] if config.model.bigrams > 0 else torch.empty(0, dtype=torch.int64)
        _demand(0 <= config.seed < 2**32, f"seed is {config.seed}")
        _demand(all(type(word) is str for word in words), "a word of its vocabulary is no text")
        _demand(all(type(number) is int and number >= 0 for number in numbers), "epoch or global_step is no count")
        _demand(_is_list(ids), "training_ids are no list of numbers of 64 bits")
        # pairs are looked for by halves
        _demand(_is_list(pairs) and bool((pairs[1:] > pairs[:-1]).all()), "pairs are no sorted numbers")
        _demand(all(map(_is_weight, weights.values())), "a weight is no tensor of real numbers")
        vocabulary, rows = Vocabulary(words), len(weights["embedding.weight"])
        _demand(rows == len(words), f"there are {len(words)} words and {rows} vectors of words")
        plain: Any = OmegaConf.to_container(config)
        return Checkpoint(path, plain, vocabulary, pairs, ids.numpy().view(np.uint64), *numbers, weights)
    except UserError:
        raise
    except KeyError as error:
        raise _not_ours(path, f"{error} is missing") from error
    except (TypeError, AttributeError, ValueError, RuntimeError, OmegaConfBaseException) as error:
        raise _not_ours(path, str(error).splitlines()[0]) from error


def _checked(saved: dict[str, Any]) -> DictConfig:
    """The configuration in a checkpoint, with the options that came later than it."""
    try:
        restored = restore(saved)
        # a model is made and fed by these; what its training was given may be refused by now
        check(OmegaConf.masked_copy(restored, ["data", "model"]), saved=True)
    except (UserError, AttributeError, OmegaConfBaseException) as error:
        raise ValueError(f"its configuration is none: {str(error).splitlines()[0]}") from error
    return restored


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _is_list(value: Any) -> bool:
    # one that is not contiguous may repeat a number more often than memory holds
    return isinstance(value, Tensor) and value.dtype == torch.int64 and value.dim() == 1 and value.is_contiguous()


def _is_weight(value: Any) -> bool:
    """Whether ``value`` is what a training writes, in any of its precisions; torch would turn others into those."""
    numbers = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested
    return plain and value.dtype in numbers and value.is_cpu


def _not_ours(path: Path, problem: str) -> UserError:
    return UserError(
        f"{path} must be a checkpoint of rnn_imdb, but {problem}: name one that python -m rnn_imdb.train wrote"
    )
