"""What a run prints at its start and at its end."""

import textwrap
from pathlib import Path
from shlex import quote

import torch
from omegaconf import DictConfig

from rnn_imdb.common.files import relative
from rnn_imdb.config.command_line import pasted
from rnn_imdb.data.module import IMDBDataModule
from rnn_imdb.model.cell import LinearCell
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.scan import find_backend, native

# what the parts of a classifier are called; the others by their own name
_PARTS = {"cell": "recurrence", "backward_cell": "backward recurrence"}


def summary(
    config: DictConfig,
    data: IMDBDataModule,
    classifier: Classifier,
    device: torch.device,
    dtype: torch.dtype,
    folder: Path,
) -> str:
    """What will be trained, on what, where, and with which parameter budget; ``dtype`` is that of the parameters.

    Raises:
        NotServed: the scan that was asked for does not run there.
    """
    sizes = ", ".join(f"{len(data.split(name).labels):,} {name}" for name in ("train", "validation", "test"))
    read = [f", the {side} {n:,} words" for side, n in (("first", data.first_words), ("last", data.last_words)) if n]
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in classifier.named_children()}
    budget = ", ".join(f"{_PARTS.get(name, name)} {count:,}" for name, count in counts.items() if count)
    shapes = f"{len(data.vocabulary):,} words x {config.model.embedding_dim}, {classifier.describe()}"
    lines = {
        "data": f"{config.data.source}: {sizes} reviews of {config.data.sequence_length} tokens{''.join(read)}",
        "model": f"{sum(counts.values()):,} parameters: {budget}; {shapes}, head {classifier.head.in_features:,} -> 1",
        "scan": f"{_scan(classifier, device, dtype)} on {device}",
    }
    wrapped = [
        textwrap.fill(text, 80, initial_indent=f"{label:8}", subsequent_indent=8 * " ") for label, text in lines.items()
    ]
    # a path stays in one piece, to be copied
    return "\n".join([*wrapped, f"run     {relative(folder)}"])


def _scan(classifier: Classifier, device: torch.device, dtype: torch.dtype) -> str:
    """The backend that the recurrence will use, and why not a faster one."""
    threads = f"{torch.get_num_threads()} threads"
    if not isinstance(classifier, ReviewClassifier):
        return f"none, {threads}"
    cell = classifier.cell
    if isinstance(cell, LinearCell):
        return f"bptt, {threads}"
    chosen = find_backend(cell.scan, device, dtype, cell.state_dim, masked=classifier.mask_padding)
    if device.type != "cpu":
        return chosen
    if chosen == "cpu":
        return f"cpu ({native.instruction_set()}), {threads}"
    slower = cell.scan == "auto" and dtype == torch.float32
    return f"{chosen}{f' (slower than cpu: {native.unavailable_reason()})' if slower else ''}, {threads}"


def next_steps(folder: Path, root: str | None) -> str:
    """The commands to paste after a run whose reviews lie in ``root``, which its checkpoint does not say."""
    run = relative(folder)
    where = f" {pasted('data.root', Path(root))}" if root else ""
    return "\n".join(
        (
            f"\nrun folder   {run}",
            f"curves       tensorboard --logdir {quote(str(run.parent))}",
            f"evaluate     python -m rnn_imdb.evaluate {pasted('checkpoint', run)}{where}",
            f"predict      python -m rnn_imdb.predict {quote(str(run))} 'A film to remember.'",
        )
    )
