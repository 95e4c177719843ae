"""Score a checkpoint on a split of reviews."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import write_atomically
from rnn_imdb.training import environment
from rnn_imdb.training.announce import chosen_scan, scores
from rnn_imdb.training.checkpoint import Checkpoint, data_settings, open_checkpoint, refuse_seen
from rnn_imdb.training.lean import make_trainer
from rnn_imdb.training.module import SentimentModule
from rnn_imdb.training.progress import Bars
from rnn_imdb.training.trainer import REFUSALS, build_data, chosen_accelerator, parameter_dtype, refusals


def evaluate(
    checkpoint: str | Path | Checkpoint,
    *,
    split: str = "test",
    data: Mapping[str, Any] | None = None,
    output: str | Path | None = None,
    accelerator: str = "auto",
) -> dict[str, float]:
    """Score a checkpoint, rebuilt from its file alone.

    Args:
        checkpoint: a checkpoint, opened or not, or a run folder (its best checkpoint).
        split: ``test``, ``validation``, ``train`` or ``all``.
        data: settings of the group ``data`` that differ from the training's.
        output: file for the metrics, or a folder for it; None: they are not written.
        accelerator: as for Lightning's Trainer.

    Returns:
        ``test/loss``, ``test/accuracy``, ``test/auroc``, ``test/f1`` and ``test/calibration_error``, with the name
        of the split in place of ``test``.

    Raises:
        UserError: the checkpoint cannot be used, or was trained on reviews of this split, which is not ``train``.
    """
    opened = checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint)
    environment.start(opened.config["seed"])
    settings = data_settings(opened.config["data"], data or {})
    _check_length(opened, settings)
    module = SentimentModule(opened.classifier())
    reviews = build_data(settings, vocabulary=opened.vocabulary)
    if split != "train":
        found = reviews.split(split)
        refuse_seen(opened, found.ids, found.texts, split, settings["source"])
    with refusals(*REFUSALS):
        trainer = make_trainer(
            accelerator=chosen_accelerator(accelerator),
            devices=1,
            precision=opened.config["trainer"]["precision"],
            # one process, also in a job of several
            plugins=[LightningEnvironment()],
            logger=False,
            callbacks=[Bars()],
            enable_model_summary=False,
            enable_checkpointing=False,
        )
    chosen_scan(module.classifier, trainer.strategy.root_device, parameter_dtype(trainer))
    trainer.test(module, reviews.loader(split), verbose=False)
    metrics = {name.replace("test/", f"{split}/"): value.item() for name, value in trainer.callback_metrics.items()}
    size = len(reviews.split(split).labels)
    print(scores(metrics, split, epoch=opened.epoch + 1, reviews=size, source=settings["source"]))
    if output is None:
        return metrics
    inside = Path(output).is_dir()
    path = Path(output) / f"evaluation_{settings['source']}_{split}.json" if inside else Path(output)
    content = json.dumps({"checkpoint": str(opened.path), "data": settings, **metrics}, indent=2) + "\n"
    try:
        if inside:
            # replaces a link of that name in place of following it
            write_atomically(path, content.encode())
        else:
            path.write_text(content, encoding="utf-8")
    except (OSError, UserError) as error:
        raise UserError(f"the metrics cannot be written to {path} ({error}): name another file with output=") from error
    print(f"written to {path}")
    return metrics


def _check_length(opened: Checkpoint, settings: Mapping[str, Any]) -> None:
    length, model = opened.config["data"]["sequence_length"], opened.config["model"]
    part = f"readout {model['readout']}" if model["encoder"] == "rnn" else f"encoder {model['encoder']}"
    if part in ("readout all", "encoder dense") and settings["sequence_length"] != length:
        raise UserError(
            f"data.sequence_length must be {length} for this checkpoint, whose {part} has a weight for every "
            f"step, got {settings['sequence_length']}: leave it out",
            exit_code=2,
        )
