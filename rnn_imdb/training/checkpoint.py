"""What a checkpoint holds, and how it is opened without running code from the file. Imports no Lightning."""

import hashlib
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.runs import find_checkpoint
from rnn_imdb.config.checks import check
from rnn_imdb.config.compose import restore
from rnn_imdb.data.sources import OPTIONS
from rnn_imdb.data.splits import Split
from rnn_imdb.data.text import Vocabulary
from rnn_imdb.model import make_classifier
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.training.environment import versions


def load(path: Path) -> Any:
    """Load the plain values and tensors of the checkpoint file ``path`` on the CPU.

    Raises:
        UserError: it cannot be read, holds anything else, or is damaged.
    """
    try:
        with path.open("rb") as file:
            _verify(file, path.stat().st_size)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} must be readable, but it is not ({error.strerror}): give access to it") from error
    except Exception as error:
        # torch and zipfile raise whatever the bytes lead them to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{path} must be a checkpoint of plain values and tensors, as it was written ({reason}): name one that "
            "python -m rnn_imdb.train wrote"
        ) from error


def _verify(file: IO[bytes], size: int) -> None:
    """Compare every entry of a checkpoint of ``size`` bytes with its checksum, which torch ignores."""
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) < len(entries):
            raise zipfile.BadZipFile("it holds two entries of one name")
        # torch compresses nothing, so no entry is larger than the file
        stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise zipfile.BadZipFile("its entries unpack to more than the file")
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"its entry {damaged} is damaged")


# where this project's part lies in a checkpoint; its format changes with the meaning of the part
OWN = "rnn_imdb"
FORMAT = 1
_PREFIX = "classifier."


def make_content(
    config: DictConfig, vocabulary: Vocabulary, pairs: Tensor, training: Split, reviews: str
) -> dict[str, Any]:
    """What a checkpoint holds beside Lightning's state, as tensors and plain values.

    Args:
        config: the training's configuration.
        vocabulary: the words of the model.
        pairs: the pairs of words that have vectors.
        training: the training reviews.
        reviews: a digest of the reviews in all splits.
    """
    return {
        "format": FORMAT,
        "config": OmegaConf.to_container(config, resolve=True),
        "vocabulary": vocabulary.words,
        "pairs": pairs,
        # torch stores no unsigned 64-bit tensors safely in every version, and only equality counts
        "training_ids": torch.from_numpy(training.ids.view(np.int64).copy()),
        "training_texts": torch.from_numpy(training.texts.view(np.int64).copy()),
        "reviews": reviews,
        "versions": versions(),
    }


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        path: the file.
        content: all that it holds.
        config, vocabulary, pairs: see :func:`make_content`; the configuration as plain dictionaries.
        training_ids, training_texts: those of the training's ``Split``; earlier versions wrote no texts.
        epoch: number of the epoch that it ends, from 0.
        step: number of training steps before it.
        weights: state of the classifier.
    """

    path: Path
    content: dict[str, Any]
    config: dict[str, Any]
    vocabulary: Vocabulary
    pairs: Tensor
    training_ids: np.ndarray
    training_texts: np.ndarray
    epoch: int
    step: int
    weights: dict[str, Tensor]

    @property
    def rows(self) -> list[dict[str, float]]:
        """The figures of its run's epochs, which earlier versions kept with a callback, and one's own Trainer not."""
        of_callback = self.content.get("callbacks", {}).get("EpochTable", {}).get("rows")
        rows = self.content[OWN].get("rows", of_callback)
        return rows if isinstance(rows, list) else []

    def digest(self) -> str:
        """16 hexadecimal digits of the weights' sha256: other bits of any weight, other digits."""
        found = hashlib.sha256()
        for weight in self.weights.values():
            found.update(weight.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()[:16]

    def classifier(self) -> Classifier:
        """The model with its weights, in evaluation mode on the CPU.

        Raises:
            UserError: the weights are not those of the configuration.
        """
        # shapes first, without memory, for a configuration may ask for any; none depends on what is drawn
        model = self.config["model"] | {"spectral_radius": None, "init": "torch"}
        with torch.device("meta"), _Undrawn():
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


class _Undrawn(TorchFunctionMode):
    """Draws no weights; without memory, that would import torch's compiler, which takes a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawing = getattr(func, "__module__", None) == "torch.nn.init"
        return kwargs["tensor"] if drawing else func(*args, **kwargs)


def build_classifier(config: Mapping[str, Any], vocabulary_size: int) -> Classifier:
    """A new classifier of the group ``model``; a small corpus may have fewer words than the configuration allows."""
    return make_classifier(
        **config["model"], vocabulary_size=vocabulary_size, sequence_length=config["data"]["sequence_length"]
    )


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint, or the best one of a run folder.

    Raises:
        UserError: there is none, or it is no checkpoint of this project.
    """
    path = find_checkpoint(path)
    return read_checkpoint(path, load(path))


def read_checkpoint(path: Path, content: Any) -> Checkpoint:
    """Check the ``content`` of the file ``path``.

    Raises:
        UserError: it is no checkpoint of this project, or a value in it is none that a training writes.
    """
    try:
        own = content[OWN]
        _demand(
            own["format"] == FORMAT, f"its format {own['format']!r} is that of version {own['versions']['rnn_imdb']}"
        )
        state, words, ids = content["state_dict"], own["vocabulary"], own["training_ids"]
        texts = own.get("training_texts", ids[:0])
        weights = {name.removeprefix(_PREFIX): state[name] for name in state if name.startswith(_PREFIX)}
        numbers = (content["epoch"], content["global_step"])
        config = restore(own["config"])
        # what a model needs; the training's own options may be refused by now
        check(OmegaConf.masked_copy(config, ["data", "model"]), saved=True)
        # earlier versions wrote none
        pairs = own["pairs"] if config.model.bigrams > 0 else torch.empty(0, dtype=torch.int64)
        _demand(0 <= config.seed < 2**32, f"seed is {config.seed}")
        _demand(all(type(word) is str for word in words), "a word of its vocabulary is no text")
        _demand(all(type(number) is int and number >= 0 for number in numbers), "epoch or global_step is no count")
        _demand(_is_list(ids) and _is_list(texts), "training_ids are no list of numbers of 64 bits")
        # the lookup halves the list
        _demand(_is_list(pairs) and bool((pairs[1:] > pairs[:-1]).all()), "pairs are no sorted numbers")
        _demand(all(map(_is_weight, weights.values())), "a weight is no tensor of real numbers")
        vocabulary, rows = Vocabulary(words), len(weights["embedding.weight"])
        _demand(rows == len(words), f"there are {len(words)} words and {rows} vectors of words")
        plain: Any = OmegaConf.to_container(config)
        seen = ids.numpy().view(np.uint64), texts.numpy().view(np.uint64)
        return Checkpoint(path, content, plain, vocabulary, pairs, *seen, *numbers, weights)
    except (UserError, KeyError, TypeError, AttributeError, ValueError, RuntimeError, OmegaConfBaseException) as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise UserError(
            f"{path} must be a checkpoint of rnn_imdb, but {problem}: name one that python -m rnn_imdb.train wrote"
        ) from error


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)


def _is_list(value: Any) -> bool:
    # one that is not contiguous may repeat a number more often than memory holds
    return isinstance(value, Tensor) and value.dtype == torch.int64 and value.dim() == 1 and value.is_contiguous()


def _is_weight(value: Any) -> bool:
    """Whether ``value`` is a weight of one of a training's precisions; torch would convert others silently."""
    numbers = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_nested
    return plain and value.dtype in numbers and value.is_cpu


def refuse_seen(opened: Checkpoint, ids: np.ndarray, texts: np.ndarray, split: str, source: str) -> None:
    """Raise UserError where a checkpoint was trained on reviews of a ``split`` that is not ``train``; see ``Split``."""
    known = np.isin(ids, opened.training_ids)
    # the official halves share some texts, which ids tell apart; a file of one's own has no such halves
    if "csv" in (source, opened.config["data"]["source"]):
        known |= np.isin(texts, opened.training_texts)
    if seen := known.sum():
        raise UserError(
            f"{split} reviews must be none that a checkpoint was trained on, but {opened.path} was trained on {seen:,} "
            f"of these {len(known):,}: choose other data, or split=train, which scores reviews of the training"
        )


def data_settings(trained: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the training, but for those that are ``given`` or belong to the machine that trained."""
    settings = dict(trained) | {"root": None, "cache_dir": None}
    if given.get("source", trained["source"]) != trained["source"]:
        settings |= OPTIONS
    elif trained["root"] and not (
        given.get("root") or (trained["source"] == "aclimdb" and os.environ.get("IMDB_ROOT"))
    ):
        raise UserError(
            "data.root must be given where a training had one, for a path belongs to a machine and no checkpoint "
            f"chooses it: add data.root=PATH (in predict --root PATH), which was {trained['root']!r}",
            exit_code=2,
        )
    if {"first_words", "last_words"} & set(given):
        # the one replaces the other
        settings |= {"first_words": None, "last_words": None}
    return settings | dict(given)
