"""One training run: data, model, trainer, test, and what the run folder keeps."""

import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import TensorBoardLogger
from omegaconf import DictConfig, OmegaConf

from rnn_imdb import session
from rnn_imdb.build import build_data, build_module, build_trainer, refusals
from rnn_imdb.callbacks.record import Record
from rnn_imdb.callbacks.table import EpochTable
from rnn_imdb.checkpoint import open_checkpoint, record
from rnn_imdb.classifier import ReviewClassifier
from rnn_imdb.data import IMDBDataModule
from rnn_imdb.errors import UserError
from rnn_imdb.evaluation import format_metrics
from rnn_imdb.scan import choose_backend, cpu


def train(config: DictConfig, folder: Path) -> dict[str, Any]:
    """Train as ``config`` says, score the best epoch on the test reviews, and write both into ``folder``.

    Args:
        config: a checked configuration of ``conf/train.yaml``.
        folder: the run folder, empty or not there yet.

    Returns:
        What ``metrics.json`` holds: figures of the best epoch (``validation/…``), ``test/…`` and ``train/…``,
        and ``parameters``, ``best_epoch``, ``epochs``, ``seconds``.

    Raises:
        UserError: the folder is in use, or data or configuration cannot be used.
    """
    started = time.monotonic()
    _claim(folder, config)
    session.start(config.seed)
    data = build_data(config.data, seed=config.seed)
    data.setup()
    module = build_module(config, len(data.vocabulary))
    table = EpochTable()
    trainer = build_trainer(config, folder, [table, Record(record(config, data.vocabulary, data.split("train")))])
    print(_summary(config, data, module.classifier, trainer.strategy.root_device, folder), flush=True)

    with refusals(MisconfigurationException):
        trainer.fit(module, data)
    if config.trainer.fast_dev_run:
        return {}
    best = open_checkpoint(folder)
    metrics: dict[str, Any] = {name: value for name, value in table.rows[best.epoch].items() if "/" in name}
    if config.test:
        module.classifier.load_state_dict(best.weights)
        with refusals(MisconfigurationException):
            metrics |= trainer.test(module, data, verbose=False)[0]
        print(f"test of epoch {best.epoch + 1}: {format_metrics(metrics, 'test')}")
    metrics |= {
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "best_epoch": best.epoch + 1,
        "epochs": len(table.rows),
        "seconds": time.monotonic() - started,
    }
    _log_hyperparameters(trainer, config, metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(_next_steps(folder))
    return metrics


def _claim(folder: Path, config: DictConfig) -> None:
    """Take ``folder`` for this run alone, and keep the resolved configuration there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(
                f"a run folder must be new or empty, but {folder} is not: leave hydra.run.dir to its default, or "
                "name another folder",
                exit_code=2,
            )
        # of two runs that come at the same moment, the second fails here
        with (folder / "config.yaml").open("x") as file:
            file.write(OmegaConf.to_yaml(config, resolve=True))
    except OSError as error:
        raise UserError(
            f"the run folder {folder} cannot be written ({error}): name another with hydra.run.dir"
        ) from error


def _summary(
    config: DictConfig, data: IMDBDataModule, classifier: ReviewClassifier, device: torch.device, folder: Path
) -> str:
    model = config.model
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    sizes = ", ".join(f"{len(data.split(name).labels):,} {name}" for name in ("train", "validation", "test"))
    return "\n".join(
        (
            f"data    {config.data.source}: {sizes} reviews of {config.data.sequence_length} tokens",
            f"model   {parameters:,} parameters: embedding {len(data.vocabulary):,} x {model.embedding_dim}, "
            f"A {model.state_dim} x ({model.state_dim} + {model.embedding_dim}),",
            f"        readout {model.readout}, head {classifier.head.in_features:,} -> 1",
            f"scan    {_scan(classifier, device)} on {device}",
            f"run     {_relative(folder)}",
        )
    )


def _scan(classifier: ReviewClassifier, device: torch.device) -> str:
    """The backend that the recurrence will use, and why not a faster one."""
    cell = classifier.cell
    if cell.scan != "auto":
        return cell.scan
    chosen = choose_backend(device, cell.A.dtype, cell.state_dim, masked=classifier.mask_padding)
    if device.type != "cpu":
        return chosen
    reason = f" (slower than cpu: {cpu.unavailable_reason()})" if chosen == "bptt" and not cpu.available() else ""
    return f"{chosen}{f' ({cpu.instruction_set()})' if chosen == 'cpu' else reason}, {torch.get_num_threads()} threads"


def _log_hyperparameters(trainer: L.Trainer, config: DictConfig, metrics: dict[str, Any]) -> None:
    """One entry in TensorBoard's HParams tab, with the figures of the best epoch."""
    flat = {
        f"{group}.{name}": value if isinstance(value, (int, float, str, bool)) else str(value)
        for group in ("model", "optimizer", "data", "trainer")
        for name, value in config[group].items()
        if value is not None
    }
    # under names of their own: these are one figure a run, not a point of a curve
    figures = {f"hparams/{name.replace('/', '_')}": value for name, value in metrics.items() if "/" in name}
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams({**flat, "seed": config.seed, "parameters": metrics["parameters"]}, figures)
            logger.save()


def _relative(folder: Path) -> Path:
    """``folder`` as a user in the working directory would type it."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _next_steps(folder: Path) -> str:
    run = _relative(folder)
    return "\n".join(
        (
            f"\nrun folder   {run}",
            f"curves       tensorboard --logdir {run.parent}",
            f"evaluate     python -m rnn_imdb.evaluate checkpoint={run}",
            f"predict      python -m rnn_imdb.predict {run} 'A film to remember.'",
        )
    )
