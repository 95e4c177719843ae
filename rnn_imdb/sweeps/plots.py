"""The plots of a report. It needs matplotlib, so that only what draws imports this module."""

import io
import math
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnn_imdb.common.files import write_atomically
from rnn_imdb.common.style import COLOURS, MARKERS, STYLE
from rnn_imdb.config.names import READOUTS
from rnn_imdb.sweeps.results import Configuration, Spread, spread
from rnn_imdb.training.outcome import is_number

MOST_CURVES = len(COLOURS)
# more cannot be read, and would take minutes to draw
MOST_READOUTS = 12
MOST_CELLS = 600


def write_plots(
    configurations: Sequence[Configuration], labels: Sequence[str], others: Sequence[str], folder: Path
) -> dict[Path, str]:
    """Draw all that can be drawn into ``folder``, and that is not too much to be seen.

    Args:
        configurations: finished ones, the best by validation first.
        labels: what tells each from the others.
        others: names of what varies beside state_dim, embedding_dim, readout and seed.
        folder: where the files go.

    Returns:
        The files written, each with a sentence about it.

    Raises:
        UserError: a file cannot be written.
    """
    if not configurations:
        return {}
    seeds = any(len(configuration.jobs) > 1 for configuration in configurations)
    over = "mean ± sd over seeds" if seeds else "one seed each"
    written = {}
    with style.context(STYLE, after_reset=True):
        few = len(_readouts(configurations)) <= MOST_READOUTS
        panels = heatmap_values(configurations) if few else []
        if panels and 1 < panels[0].accuracy.size <= MOST_CELLS // len(panels):
            note = over.replace("± sd ", "")
            if others:
                note = f"the best configuration of each cell by validation, {note}; {', '.join(others)} varied too"
            path = folder / "accuracy_heatmap.png"
            _save(draw_heatmap(panels, note), path)
            written[path] = f"Validation accuracy by state_dim and embedding_dim: {note}."
        if few:
            path = folder / "accuracy_vs_parameters.png"
            _save(draw_parameters(configurations, over), path)
            written[path] = f"Accuracy against the number of parameters, {over}."
        if any(job.metrics.get("history") for configuration in configurations for job in configuration.jobs):
            path = folder / "learning_curves.png"
            most = len(configurations) > MOST_CURVES
            note = f"{over}, the best {MOST_CURVES} of {len(configurations)} by validation" if most else over
            _save(draw_curves(configurations, labels, note), path)
            reached = "; an epoch's mean is over the seeds that reached it" if seeds else ""
            written[path] = f"Loss and accuracy by epoch, {note}{reached}."
    return written


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_atomically(path, buffer.getvalue())


@dataclass(frozen=True)
class Panel:
    """Validation accuracy in % of one readout, (state_dims, embedding_dims); NaN where nothing finished."""

    readout: str
    state_dims: list[int]
    embedding_dims: list[int]
    accuracy: np.ndarray


def heatmap_values(configurations: Sequence[Configuration]) -> list[Panel]:
    """One panel a readout, all with the same axes; a cell is its best configuration's mean over seeds."""
    configs = [configuration.config for configuration in configurations]
    states, embeddings = (sorted({c[f"model.{name}"] for c in configs}) for name in ("state_dim", "embedding_dim"))
    panels = {
        readout: Panel(readout, states, embeddings, np.full((len(states), len(embeddings)), np.nan))
        for readout in _readouts(configurations)
    }
    for configuration, config in zip(configurations, configs, strict=True):
        cell = states.index(config["model.state_dim"]), embeddings.index(config["model.embedding_dim"])
        accuracy = panels[config["model.readout"]].accuracy
        accuracy[cell] = np.fmax(accuracy[cell], 100 * _mean(configuration, "validation/accuracy"))
    return list(panels.values())


def _readouts(configurations: Sequence[Configuration]) -> list[str]:
    """The readouts of ``configurations``, in the package's order."""
    found = {configuration.config["model.readout"] for configuration in configurations}
    return [name for name in READOUTS if name in found] + sorted(found - set(READOUTS))


def _mean(configuration: Configuration, metric: str) -> float:
    found = configuration.spread(metric)
    return math.nan if found is None else found.mean


def draw_heatmap(panels: Sequence[Panel], note: str) -> Figure:
    """Validation accuracy by state_dim and embedding_dim, a panel a readout, with the values in the cells."""
    rows, columns = panels[0].accuracy.shape
    across = min(len(panels), 3)
    down = math.ceil(len(panels) / across)
    width, height = max(0.75 * columns + 1.0, 2.2), max(0.55 * rows + 1.0, 1.8)
    figure = Figure(figsize=(max(across * width + 1.1, 6.0), down * height + 1.0))
    axes = figure.subplots(down, across, squeeze=False)
    values = np.concatenate([panel.accuracy.ravel() for panel in panels])
    low, high = np.nanmin(values), np.nanmax(values)
    image = None
    for axis, panel in zip(axes.flat, panels, strict=False):
        image = axis.imshow(panel.accuracy, cmap="cividis", vmin=low, vmax=high, origin="lower", aspect="auto")
        axis.set_title(f"readout {panel.readout}", fontsize=10)
        axis.set_xticks(range(columns), [str(dim) for dim in panel.embedding_dims])
        axis.set_yticks(range(rows), [str(dim) for dim in panel.state_dims])
        axis.set_xlabel("embedding_dim")
        axis.set_ylabel("state_dim")
        axis.set_facecolor("#eeeeee")
        axis.grid(False)
        axis.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(panel.accuracy):
            text = "–" if np.isnan(value) else f"{value:.1f}"
            # dark cells are those of low values
            dark = not np.isnan(value) and value - low < 0.5 * (high - low)
            axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    # about as many characters as the width holds
    note = textwrap.fill(note, int(11 * figure.get_figwidth()))
    figure.suptitle(f"Validation accuracy (%)\n{note}", fontsize=11)
    if image is not None and high > low:
        figure.colorbar(image, ax=axes, label="validation accuracy (%)")
    return figure


def draw_parameters(configurations: Sequence[Configuration], note: str) -> Figure:
    """Validation and test accuracy against the number of parameters, a colour and marker a readout."""
    splits = [
        name for name in ("validation", "test") if any(c.spread(f"{name}/accuracy") is not None for c in configurations)
    ]
    readouts = _readouts(configurations)
    counts = sorted({configuration.jobs[0].metrics["parameters"] for configuration in configurations})
    # the logarithmic axis, with room at both sides
    span = max(math.log(counts[-1] / counts[0]), 0.1)
    left, right = counts[0] * math.exp(-0.12 * span), counts[-1] * math.exp(0.12 * span)
    ticks = _apart(counts, 0.14 * math.log(right / left))
    small = len(configurations) > 40
    figure = Figure(figsize=(1.2 + 4.3 * len(splits), 4.4))
    axes = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
    for axis, split in zip(axes, splits, strict=True):
        for index, readout in enumerate(readouts):
            points = _points([c for c in configurations if c.config["model.readout"] == readout], f"{split}/accuracy")
            # readouts with equally many parameters stand side by side
            shift = math.exp(0.018 * span * (index - (len(readouts) - 1) / 2))
            axis.errorbar(
                [count * shift for count, _ in points],
                [100 * point.mean for _, point in points],
                yerr=[math.nan if point.sd is None else 100 * point.sd for _, point in points],
                fmt=MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                markersize=4 if small else 6,
                elinewidth=0.8 if small else 1.3,
                capsize=0 if small else 3,
                alpha=0.85,
                label=readout,
            )
        axis.set_xscale("log")
        axis.set_title(f"{split} accuracy", fontsize=10)
        axis.minorticks_off()
        axis.set_xticks(ticks, [_short(count, ticks) for count in ticks])
        axis.set_xlim(left, right)
        axis.set_xlabel(f"parameters (log scale{'; readouts side by side' if len(readouts) > 1 else ''})")
    axes[0].set_ylabel("accuracy (%)")
    figure.suptitle(f"Accuracy against parameters, {note}", fontsize=11)
    figure.legend(
        *axes[0].get_legend_handles_labels(), title="readout", loc="outside lower center", ncols=len(readouts)
    )
    return figure


def _points(configurations: Sequence[Configuration], metric: str) -> list[tuple[int, Spread]]:
    found = [
        (configuration.jobs[0].metrics["parameters"], configuration.spread(metric)) for configuration in configurations
    ]
    return [(count, point) for count, point in found if point is not None]


def _apart(counts: Sequence[int], least: float) -> list[int]:
    """Of ``counts``, in order, those at least a factor of exp(``least``) apart."""
    kept = [counts[0]]
    for count in counts:
        if math.log(count / kept[-1]) >= least:
            kept.append(count)
    return kept


def _short(count: int, counts: Sequence[int]) -> str:
    """322k or 1.29M, unless that makes two of ``counts`` look the same."""

    def short(value: int) -> str:
        return f"{value / 1e6:.3g}M" if value >= 999_500 else f"{value / 1e3:.3g}k" if value >= 1000 else str(value)

    return short(count) if len({short(other) for other in counts}) == len(counts) else f"{count:,}"


def draw_curves(configurations: Sequence[Configuration], labels: Sequence[str], note: str) -> Figure:
    """Loss and accuracy of training and validation by epoch, a line a configuration."""
    drawn = list(zip(configurations, labels, strict=True))[:MOST_CURVES]
    columns = 2 if len(drawn) > 1 and max(len(label) for _, label in drawn) <= 60 else 1
    drawn = [(configuration, textwrap.fill(label, 110)) for configuration, label in drawn]
    legend_lines = sum(label.count("\n") + 1 for _, label in drawn) / columns
    figure = Figure(figsize=(9.6, 6.8 + 0.24 * legend_lines))
    # training and validation have their own scales: one for both would hide what tells configurations apart
    axes = figure.subplots(2, 2, sharex=True)
    for row, (quantity, unit, scale) in enumerate((("loss", "loss (nats)", 1.0), ("accuracy", "accuracy (%)", 100.0))):
        for column, split in enumerate(("train", "validation")):
            axis = axes[row, column]
            for index, (configuration, label) in enumerate(drawn):
                _draw_curve(axis, curve(configuration, f"{split}/{quantity}"), scale, index, label)
            axis.set_title(f"{'training' if split == 'train' else split} {quantity}", fontsize=10)
            axis.set_ylabel(unit)
            axis.set_xlabel("epoch" if row else "")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.suptitle(f"Learning curves, {note}", fontsize=11)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def curve(configuration: Configuration, metric: str) -> list[tuple[int, Spread]]:
    """Epochs, counted from 1, and the spread of ``metric`` over the jobs that reached each."""
    values: dict[int, list[float]] = defaultdict(list)
    rows: list[dict[str, Any]] = [row for job in configuration.jobs for row in job.metrics.get("history", [])]
    for row in rows:
        if is_number(row.get(metric)):
            values[row["epoch"] + 1].append(row[metric])
    found = [(epoch, spread(numbers)) for epoch, numbers in sorted(values.items())]
    return [(epoch, point) for epoch, point in found if point is not None]


def _draw_curve(axis: Axes, points: Sequence[tuple[int, Spread]], scale: float, index: int, label: str) -> None:
    epochs = [epoch for epoch, _ in points]
    means = scale * np.array([point.mean for _, point in points])
    deviations = scale * np.array([point.sd or 0.0 for _, point in points])
    colour = COLOURS[index]
    axis.plot(epochs, means, color=colour, marker=MARKERS[index], markersize=4.5, linewidth=1.4, label=label)
    if deviations.any():
        axis.fill_between(epochs, means - deviations, means + deviations, color=colour, alpha=0.13, linewidth=0)
