"""The plots of a report. It needs matplotlib, so that only what draws imports this module."""

import io
import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import style
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


def write_plots(configurations: Sequence[Configuration], others: Sequence[str], folder: Path) -> dict[Path, str]:
    """Draw into ``folder`` all that can be drawn and is not too much to be seen.

    Args:
        configurations: finished ones, the best by validation first.
        others: names of what varies beside state_dim, embedding_dim, readout and seed.
        folder: where the files go.

    Returns:
        The files written, each with its caption.
    """
    if not configurations:
        return {}
    written: dict[Path, str] = {}

    def write(figure: Figure, name: str, caption: str) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        write_atomically(folder / name, buffer.getvalue())
        written[folder / name] = caption

    seeds = any(len(configuration.jobs) > 1 for configuration in configurations)
    over = "mean ± sd over seeds" if seeds else "one seed each"
    few = len(_readouts(configurations)) <= MOST_READOUTS
    with style.context(STYLE, after_reset=True):
        states, embeddings, grids = heatmap_values(configurations)
        cells = len(states) * len(embeddings)
        if few and cells > 1 and cells * len(grids) <= MOST_CELLS:
            note = over.replace("± sd ", "")
            if others:
                note = f"the best configuration of each cell by validation, {note}; {', '.join(others)} varied too"
            caption = f"Validation accuracy by state_dim and embedding_dim: {note}."
            write(draw_heatmap(states, embeddings, grids, note), "accuracy_heatmap.png", caption)
        if few:
            caption = f"Accuracy against the number of parameters, {over}."
            write(draw_parameters(configurations, over), "accuracy_vs_parameters.png", caption)
        if any(job.metrics.get("history") for configuration in configurations for job in configuration.jobs):
            note = over
            if len(configurations) > MOST_CURVES:
                note += f", the best {MOST_CURVES} of {len(configurations)} by validation"
            reached = "; an epoch's mean is over the seeds that reached it" if seeds else ""
            caption = f"Loss and accuracy by epoch, {note}{reached}."
            write(draw_curves(configurations[:MOST_CURVES], note), "learning_curves.png", caption)
    return written


def heatmap_values(configurations: Sequence[Configuration]) -> tuple[list[int], list[int], dict[str, np.ndarray]]:
    """State_dims, embedding_dims, and validation accuracy in % by readout, (state_dims, embedding_dims).

    A cell is its best configuration's mean over seeds; NaN where nothing finished.
    """
    configs = [configuration.config for configuration in configurations]
    states, embeddings = (sorted({c[f"model.{name}"] for c in configs}) for name in ("state_dim", "embedding_dim"))
    grids = {readout: np.full((len(states), len(embeddings)), np.nan) for readout in _readouts(configurations)}
    for configuration, config in zip(configurations, configs, strict=True):
        cell = states.index(config["model.state_dim"]), embeddings.index(config["model.embedding_dim"])
        grid = grids[config["model.readout"]]
        grid[cell] = np.fmax(grid[cell], 100 * configuration.spread("validation/accuracy").mean)
    return states, embeddings, grids


def _readouts(configurations: Sequence[Configuration]) -> list[str]:
    """The readouts of ``configurations``, in the package's order."""
    found = {configuration.config["model.readout"] for configuration in configurations}
    return [name for name in READOUTS if name in found] + sorted(found - set(READOUTS))


def draw_heatmap(states: list[int], embeddings: list[int], grids: Mapping[str, np.ndarray], note: str) -> Figure:
    """Draw :func:`heatmap_values`, a panel a readout, with the values in the cells."""
    across = min(len(grids), 3)
    down = math.ceil(len(grids) / across)
    width, height = max(0.75 * len(embeddings) + 1.0, 2.2), max(0.55 * len(states) + 1.0, 1.8)
    figure = Figure(figsize=(max(across * width + 1.1, 6.0), down * height + 1.0))
    axes = figure.subplots(down, across, squeeze=False)
    low, high = np.nanmin(list(grids.values())), np.nanmax(list(grids.values()))
    image = None
    for axis, (readout, grid) in zip(axes.flat, grids.items(), strict=False):
        image = axis.imshow(grid, cmap="cividis", vmin=low, vmax=high, origin="lower", aspect="auto")
        axis.set_title(f"readout {readout}", fontsize=10)
        axis.set_xticks(range(len(embeddings)), embeddings)
        axis.set_yticks(range(len(states)), states)
        axis.set_xlabel("embedding_dim")
        axis.set_ylabel("state_dim")
        axis.set_facecolor("#eeeeee")
        axis.grid(False)
        axis.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(grid):
            text = "–" if np.isnan(value) else f"{value:.1f}"
            # dark cells are those of low values
            dark = value - low < 0.5 * (high - low)
            axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    for axis in axes.flat[len(grids) :]:
        axis.set_visible(False)
    # about as many characters as the width holds
    note = textwrap.fill(note, int(11 * figure.get_figwidth()))
    figure.suptitle(f"Validation accuracy (%)\n{note}", fontsize=11)
    if image is not None and high > low:
        figure.colorbar(image, ax=axes, label="validation accuracy (%)")
    return figure


def draw_parameters(configurations: Sequence[Configuration], note: str) -> Figure:
    """Validation and test accuracy against the number of parameters, a colour and marker a readout."""
    splits = [name for name in ("validation", "test") if any(c.spread(f"{name}/accuracy").n for c in configurations)]
    readouts = _readouts(configurations)
    counts = sorted({configuration.parameters for configuration in configurations})
    # the logarithmic axis, with room at both sides
    span = max(math.log(counts[-1] / counts[0]), 0.1)
    left, right = counts[0] * math.exp(-0.12 * span), counts[-1] * math.exp(0.12 * span)
    ticks = counts[:1]
    for count in counts:
        # labels that are nearer would overlap
        if math.log(count / ticks[-1]) >= 0.14 * math.log(right / left):
            ticks.append(count)
    small = {"markersize": 4, "elinewidth": 0.8, "capsize": 0} if len(configurations) > 40 else {}
    figure = Figure(figsize=(1.2 + 4.3 * len(splits), 4.4))
    axes = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
    for axis, split in zip(axes, splits, strict=True):
        for index, readout in enumerate(readouts):
            drawn = [c for c in configurations if c.config["model.readout"] == readout]
            points = [configuration.spread(f"{split}/accuracy") for configuration in drawn]
            # readouts with equally many parameters stand side by side
            shift = math.exp(0.018 * span * (index - (len(readouts) - 1) / 2))
            axis.errorbar(
                [configuration.parameters * shift for configuration in drawn],
                [100 * point.mean for point in points],
                yerr=[math.nan if point.sd is None else 100 * point.sd for point in points],
                fmt=MARKERS[index % len(MARKERS)],
                color=COLOURS[index % len(COLOURS)],
                alpha=0.85,
                label=readout,
                **({"markersize": 6, "elinewidth": 1.3, "capsize": 3} | small),
            )
        axis.set_xscale("log")
        axis.set_title(f"{split} accuracy", fontsize=10)
        axis.minorticks_off()
        axis.set_xticks(ticks, _short(ticks))
        axis.set_xlim(left, right)
        axis.set_xlabel(f"parameters (log scale{'; readouts side by side' if len(readouts) > 1 else ''})")
    axes[0].set_ylabel("accuracy (%)")
    figure.suptitle(f"Accuracy against parameters, {note}", fontsize=11)
    handles = axes[0].get_legend_handles_labels()
    figure.legend(*handles, title="readout", loc="outside lower center", ncols=len(readouts))
    return figure


def _short(counts: Sequence[int]) -> list[str]:
    """Each count as 322k or 1.29M, or all in full where that makes two look the same."""
    texts = [f"{n / 1e6:.3g}M" if n >= 999_500 else f"{n / 1e3:.3g}k" if n >= 1000 else str(n) for n in counts]
    return texts if len(set(texts)) == len(counts) else [f"{n:,}" for n in counts]


def draw_curves(configurations: Sequence[Configuration], note: str) -> Figure:
    """Loss and accuracy of training and validation by epoch, a line a configuration."""
    longest = max(len(configuration.label) for configuration in configurations)
    columns = 2 if len(configurations) > 1 and longest <= 60 else 1
    labels = [textwrap.fill(configuration.label, 110) for configuration in configurations]
    legend_lines = sum(label.count("\n") + 1 for label in labels) / columns
    figure = Figure(figsize=(9.6, 6.8 + 0.24 * legend_lines))
    # training and validation have their own scales: one for both would hide what tells configurations apart
    axes = figure.subplots(2, 2, sharex=True)
    for row, (quantity, unit, scale) in enumerate((("loss", "loss (nats)", 1), ("accuracy", "accuracy (%)", 100))):
        for column, split in enumerate(("train", "validation")):
            axis = axes[row, column]
            for configuration, label, colour, marker in zip(configurations, labels, COLOURS, MARKERS, strict=False):
                points = curve(configuration, f"{split}/{quantity}")
                means = scale * np.array([point.mean for point in points.values()])
                deviations = scale * np.array([point.sd or 0 for point in points.values()])
                style = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.4, "label": label}
                axis.plot(list(points), means, **style)
                if deviations.any():
                    low, high = means - deviations, means + deviations
                    axis.fill_between(list(points), low, high, color=colour, alpha=0.13, linewidth=0)
            axis.set_title(f"{'training' if split == 'train' else split} {quantity}", fontsize=10)
            axis.set_ylabel(unit)
            axis.set_xlabel("epoch" if row else "")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.suptitle(f"Learning curves, {note}", fontsize=11)
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=columns, fontsize=9)
    return figure


def curve(configuration: Configuration, metric: str) -> dict[int, Spread]:
    """The spread of ``metric`` over the jobs that reached each epoch, by epochs counted from 1."""
    values: dict[int, list[float]] = defaultdict(list)
    for job in configuration.jobs:
        for row in job.metrics.get("history", []):
            if is_number(row.get(metric)):
                values[row["epoch"] + 1].append(row[metric])
    return {epoch: spread(values[epoch]) for epoch in sorted(values)}
