"""Everything that a checkpoint needs to be used on its own, and one from the very start."""

from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from rnn_imdb.errors import UserError


class Record(L.Callback):
    """Puts ``content`` into each checkpoint under ``rnn_imdb``: tensors and plain Python values only.

    ``torch.load(weights_only=True)``, which runs no code of the file, opens such a checkpoint.

    Args:
        content: what to add.
        first: where to write a checkpoint before the first step, so that there always is one; None for nowhere.
    """

    def __init__(self, content: dict[str, Any], first: Path | None = None) -> None:
        self.content = content
        self.first = first

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.first is not None and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            trainer.save_checkpoint(self.first)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # curves are on disk before the checkpoint that they lead to, so that none has a gap after a kill
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.flush()
            else:
                logger.save()
        checkpoint["rnn_imdb"] = self.content | {"stopped": trainer.should_stop}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning does not remember that a run has stopped early; one that is to have more epochs trains on
        own = checkpoint["rnn_imdb"]
        stopped = own.get("stopped", False) and own["config"]["trainer"]["max_epochs"] == trainer.max_epochs
        trainer.should_stop = stopped  # pyright: ignore[reportAttributeAccessIssue]
        # nor the best epoch of a folder that was moved, and a worse one would take its place
        states = checkpoint["callbacks"]
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in states:
                states[callback.state_key] = _moved(states[callback.state_key], str(callback.dirpath))


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a ModelCheckpoint, with its files in another folder.

    Raises:
        UserError: a file would lie outside, where Lightning would delete it when a better one comes.
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
