"""How a training writes its checkpoints: each whole, with what opens it anywhere, and after the curves."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import write_atomically
from rnn_imdb.config.compose import compose
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.data.splits import SPLITS
from rnn_imdb.model import ENCODERS
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.embedding import frequent_pairs
from rnn_imdb.training.checkpoint import OWN, load, make_content
from rnn_imdb.training.optimizers import OPTIMIZERS


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces a checkpoint in one step, so that a kill or a full disk leaves the previous one whole."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        assert storage_options is None, "a local file has no storage options"
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(Path(path), buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        return load(Path(path))


def digest_of_reviews(data: IMDBDataModule) -> str:
    """A digest of the reviews in all splits, whatever their order."""
    return hashlib.sha256(b"".join(np.sort(data.split(name).ids).tobytes() for name in SPLITS)).hexdigest()


def content_of(config: DictConfig, data: IMDBDataModule, classifier: Classifier) -> dict[str, Any]:
    """What a training of ``classifier`` on ``data`` puts into its checkpoints."""
    return make_content(config, data.vocabulary, classifier.pairs, data.split("train"), digest_of_reviews(data))


def content_with(classifier: Classifier, optimizer: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """The same for one's own Trainer: with the configuration of ``rnn_imdb.train`` that makes the same objects.

    Nothing where the classifier or the data are not of this project, for its commands could not make them again.

    Raises:
        UserError: the classifier has not a vector for each word of the data.
    """
    encoders = {kind: name for name, kind in ENCODERS.items()}
    if type(classifier) not in encoders or not isinstance(data, IMDBDataModule):
        return {}
    words, vectors = len(data.vocabulary), classifier.embedding.num_embeddings
    if words != vectors:
        raise UserError(
            f"a classifier must have a vector for each of the {words:,} words of its data, got {vectors:,}: give "
            f"vocabulary_size={words}"
        )
    if classifier.bigrams is not None and not len(classifier.pairs):
        classifier.pairs = frequent_pairs(data.split("train").tokens, classifier.bigrams.num_embeddings)
    file = optimizer["name"] if optimizer["name"] in OPTIMIZERS else "own"
    config: Any = OmegaConf.to_container(compose("train", [f"optimizer={file}"]), resolve=True)
    model = {"encoder": encoders[type(classifier)], **classifier.options}
    for group, given in (("data", data.hparams), ("model", model), ("optimizer", optimizer)):
        named = {name: given[name] for name in config[group] if name in given}
        # a class of one's own is named by its address
        config[group] |= {
            name: f"{value.__module__}.{value.__qualname__}" if callable(value) else value
            for name, value in named.items()
        }
    return content_of(DictConfig(config | {"seed": data.seed}), data, classifier)


class Saving(L.Callback):
    """Writes the curves before each checkpoint, and completes what Lightning forgets when it restores one.

    Args:
        first: where to write a checkpoint before the first step, so that there always is one; None for nowhere.
    """

    def __init__(self, first: Path | None = None) -> None:
        self.first = first

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.first is not None and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            trainer.save_checkpoint(self.first)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # a kill leaves no gap in them
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
            else:
                logger.save()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning forgets that a run has stopped early; with more epochs it trains on
        own = checkpoint[OWN]
        stopped = own.get("stopped", False) and own["config"]["trainer"]["max_epochs"] == trainer.max_epochs
        trainer.should_stop = stopped  # pyright: ignore[reportAttributeAccessIssue]
        # and the best epoch of a folder that was moved, which a worse one would replace
        states = checkpoint["callbacks"]
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
                states[callback.state_key] = _moved(states[callback.state_key], str(callback.dirpath))


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint whose files lie in another folder now.

    Raises:
        UserError: a file would lie outside, and Lightning deletes those of epochs that are no longer the best.
    """

    def there(path: str) -> str:
        if not path:
            return path
        inside = Path(path).relative_to(state["dirpath"])
        if ".." in inside.parts or not inside.name:
            raise ValueError(f"{path!r} is no file in {state['dirpath']!r}")
        return str(Path(folder) / inside)

    try:
        paths = {name: there(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        scores = {there(path): score for path, score in state["best_k_models"].items()}
        return state | paths | {"dirpath": folder, "best_k_models": scores}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"a checkpoint to resume must know its run's checkpoints, all in one folder, but {error}: start a new run"
        ) from error
