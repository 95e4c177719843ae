"""What TensorBoard shows of a run beside its curves: the charts of the first screen, and a line in HParams."""

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as L
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

from rnn_imdb.config.identity import flat

# training and validation in one chart
CHARTS = {"curves": {name: ["Multiline", [f"^train/{name}$", f"^validation/{name}$"]] for name in ("loss", "accuracy")}}
# options of a run that is no job of a sweep
HYPERPARAMETERS = (
    "model.state_dim",
    "model.embedding_dim",
    "model.readout",
    "model.mask_padding",
    "optimizer.learning_rate",
    "optimizer.name",
    "seed",
)
# of the best epoch, in the order in which TensorBoard sorts them; it shows five
FIGURES = ("test/accuracy", "test/loss", "validation/accuracy", "validation/loss")


def tensorboard_writers(trainer: L.Trainer) -> list[SummaryWriter]:
    """One for each TensorBoard logger in the first process; none in a ``fast_dev_run``."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger.experiment for logger in loggers if isinstance(logger, TensorBoardLogger)]


class Charts(L.Callback):
    """Lays out TensorBoard's tab Custom Scalars, and closes the loggers of a run that fails."""

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        close(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for writer in tensorboard_writers(trainer):
            writer.add_custom_scalars(CHARTS)


def log_configuration(trainer: L.Trainer, config: DictConfig) -> None:
    """Give every logger the options by their dotted keys; TensorBoard has its line in HParams in the end."""
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(flat(OmegaConf.to_container(config, resolve=True)))


def close(trainer: L.Trainer) -> None:
    """End what a logger would go on with in the next run of this process, as Weights & Biases does."""
    for logger in trainer.loggers:
        logger.save()
        if callable(finish := getattr(getattr(logger, "_experiment", None), "finish", None)):
            finish()


def log_best(trainer: L.Trainer, config: DictConfig, metrics: Mapping[str, Any], step: int) -> None:
    """Write the best epoch's figures, at its last ``step``, and the line in HParams that has them.

    A job of a sweep has the options that are swept, so that no column is constant; another run has the usual ones.
    Without a summary of the experiment TensorBoard puts those that differ first, whichever runs it is given.
    """
    keys = list(config.sweep.swept) or HYPERPARAMETERS
    # a swept group stands there by its choice
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    values = {key: choices.get(key, OmegaConf.select(config, key)) for key in keys}
    options = {
        key: value if isinstance(value, (int, float)) else str(value)
        for key, value in values.items()
        if not OmegaConf.is_config(value)
    }
    if any(key.startswith("model") for key in keys):
        options["parameters"] = metrics["parameters"]
    figures = {f"best/{name.replace('/', '_')}": metrics[name] for name in FIGURES if name in metrics}
    figures = {"best/epoch": metrics["best_epoch"], **figures}
    for logger in trainer.loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_metrics(figures, step)
    close(trainer)
    for writer in tensorboard_writers(trainer):
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        _, start, end = hparams(options, {})
        for summary in (start, end):
            writer.file_writer.add_summary(summary)  # pyright: ignore[reportOptionalMemberAccess]
