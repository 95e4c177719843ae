"""What a run prints at its start and at its end."""

from pathlib import Path

import torch
from omegaconf import DictConfig

from rnn_imdb.classifier import ReviewClassifier
from rnn_imdb.data import IMDBDataModule
from rnn_imdb.files import relative
from rnn_imdb.scan import choose_backend, cpu


def summary(
    config: DictConfig, data: IMDBDataModule, classifier: ReviewClassifier, device: torch.device, folder: Path
) -> str:
    """What will be trained, on what, where, and with which parameter budget."""
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
            f"run     {relative(folder)}",
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


def next_steps(folder: Path) -> str:
    """The commands to paste after a run."""
    run = relative(folder)
    return "\n".join(
        (
            f"\nrun folder   {run}",
            f"curves       tensorboard --logdir {run.parent}",
            f"evaluate     python -m rnn_imdb.evaluate checkpoint={run}",
            f"predict      python -m rnn_imdb.predict {run} 'A film to remember.'",
        )
    )
