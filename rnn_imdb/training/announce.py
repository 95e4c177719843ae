"""The lines that a run prints at its start and at its end. Imports no Lightning."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import torch
from omegaconf import DictConfig

from rnn_imdb.common.console import counted
from rnn_imdb.common.errors import UserError, is_address
from rnn_imdb.common.files import relative
from rnn_imdb.common.runs import short_name
from rnn_imdb.config.command_line import pasted
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.scan import Case, Unsupported, choose_backend, native

if TYPE_CHECKING:
    from rnn_imdb.data.module import IMDBDataModule

# what TensorBoard opens: the charts, without the smoothing that draws a rising validation loss as a falling one
LINK = "http://localhost:6006/?smoothing=0#custom_scalars&_smoothingWeight=0"
# what the parts of a classifier are called; the others by their own name
_PARTS = {"cell": "recurrence", "backward_cell": "backward recurrence"}


def announcement(
    config: DictConfig,
    data: "IMDBDataModule",
    classifier: Classifier,
    device: torch.device,
    dtype: torch.dtype,
    folder: Path,
) -> str:
    """What will be trained, on what, where, and with which parameter budget; ``dtype`` is that of the parameters.

    Raises:
        UserError: the scan that was asked for has no code for this model on this device.
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
    threads = counted(torch.get_num_threads(), "thread")
    chosen = chosen_scan(classifier, device, dtype)
    if not isinstance(classifier, ReviewClassifier):
        return f"{chosen}, {threads}"
    cell = classifier.cell
    if device.type != "cpu" and not cell.linear:
        return chosen
    if chosen == "cpu":
        return f"cpu ({native.instruction_set()}), {threads}"
    slower = cell.scan == "auto" and dtype == torch.float32 and not native.available()
    return f"{chosen}{f' (slower than cpu: {native.unavailable_reason()})' if slower else ''}, {threads}"


def chosen_scan(classifier: Classifier, device: torch.device, dtype: torch.dtype) -> str:
    """The backend that the recurrence of ``classifier`` will use; ``none`` where it has no recurrence.

    Raises:
        UserError: the one that was asked for has no code for this model on this device.
    """
    if not isinstance(classifier, ReviewClassifier):
        return "none"
    cell = classifier.cell
    case = Case(device, dtype, cell.state_dim, classifier.mask_padding, cell.linear)
    try:
        return choose_backend(cell.scan, case)
    except Unsupported as error:
        raise UserError(f"model.scan must suit the model and its device, but {error}", exit_code=2) from error


def scores(metrics: Mapping[str, float], split: str, *, epoch: int, reviews: int, source: str) -> str:
    """The metrics of the epoch ``epoch``, from 1, on the ``reviews`` of one split, on two lines."""
    loss, accuracy, auroc, f1, error = (
        metrics[f"{split}/{name}"] for name in ("loss", "accuracy", "auroc", "f1", "calibration_error")
    )
    return (
        f"{split} of epoch {epoch} on {counted(reviews, f'{source} review')}: loss {loss:.4f}  "
        f"accuracy {accuracy:.2%}\n  AUROC {auroc:.4f}  F1 {f1:.4f}  calibration error {error:.4f}"
    )


def next_steps(folder: Path, config: DictConfig) -> str:
    """The commands to paste after a run, with what its checkpoint cannot say: where reviews lie, one's own classes."""
    run, name = relative(folder), quote(short_name(folder))
    root, own = config.data.root, [*filter(is_address, (config.model.readout, config.data.source))]
    # a path stays in one piece
    where = f" \\\n{10 * ' '}{pasted('data.root', Path(root))}" if root else ""
    where += f" 'classes=[{','.join(own)}]'" if own else ""
    classes = "".join(f" --class {each}" for each in own)
    return "\n".join(
        (
            f"\nrun       {run}",
            f"curves    tensorboard --logdir {quote(str(run.parent))}",
            f"          {LINK}",
            f"evaluate  python -m rnn_imdb.evaluate {name}{where}",
            f"predict   python -m rnn_imdb.predict {name} -i{classes}",
        )
    )
