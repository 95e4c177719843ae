"""The plots of a report. It needs matplotlib, so that only what draws imports this module."""

import math
import textwrap
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rnn_imdb.common.console import clip
from rnn_imdb.common.files import write_atomically
from rnn_imdb.common.style import COLOURS, MARKERS, picture
from rnn_imdb.config.names import READOUTS
from rnn_imdb.sweeps.results import MODEL_KEYS, Configuration, Spread, short_names, shown, spread
from rnn_imdb.training.outcome import is_number

# more cannot be told apart: curves with a name, grey ones behind them, panels, values along an axis, error bars
MOST_CURVES, MOST_BEHIND, MOST_PANELS, MOST_VALUES, MOST_BARS = 6, 200, 9, 12, 24


def write_plots(settings: Sequence[Configuration], keys: Sequence[str], folder: Path) -> dict[Path, str]:
    """Draw into ``folder`` all that can be drawn of ``settings``, the best first, and is not too much to be seen.

    ``keys`` are the options that vary between them. Returns the files written, each with its caption.
    """
    seeds = any(len(setting.jobs) > 1 for setting in settings)
    mean = "mean over seeds" if seeds else "one seed each"
    dots = f"a dot a setting, {mean}" + (", bars ± sd" if seeds and len(settings) <= MOST_BARS else "")
    written: dict[Path, str] = {}

    def write(name: str, caption: str, draw: Callable[[], Figure]) -> None:
        def titled() -> Figure:
            figure = draw()
            # about as many characters as the width holds
            figure.suptitle(textwrap.fill(caption, int(9 * figure.get_figwidth())))
            return figure

        write_atomically(folder / name, picture(titled))
        written[folder / name] = f"{caption}."

    states, embeddings, grids = heatmap_values(settings)
    if len(states) * len(embeddings) > 1 and max(len(states), len(embeddings), 2 * len(grids)) <= MOST_VALUES:
        others = [name for key, name in short_names(keys).items() if key not in MODEL_KEYS]
        cells = f"the best setting of each cell, {mean}; {', '.join(others)} varied too" if others else mean
        caption = f"Validation accuracy by state_dim and embedding_dim: {cells}"
        write("accuracy_heatmap.png", caption, lambda: draw_heatmap(states, embeddings, grids))
    if keys and settings:
        caption = f"Validation accuracy by option: {dots}"
        panels = [("validation", key) for key in keys]
        write("accuracy_by_option.png", caption, lambda: draw_accuracies(settings, panels))
    if len({setting.parameters for setting in settings}) > 1:
        caption = f"Accuracy by number of parameters: {dots}"
        splits = [(split, "parameters") for split in ("validation", "test")]
        write("accuracy_vs_parameters.png", caption, lambda: draw_accuracies(settings, splits))
    if any(job.metrics.get("history") for setting in settings for job in setting.jobs):
        caption = f"Learning curves: {mean}" + (" that reached the epoch, bands ± sd" if seeds else "")
        if len(settings) > MOST_CURVES:
            behind = min(len(settings) - MOST_CURVES, MOST_BEHIND)
            caption += f"; the best {MOST_CURVES} of {len(settings)} by validation, in grey the next {behind}"
        write("learning_curves.png", caption, lambda: draw_curves(settings, keys))
    return written


def heatmap_values(
    settings: Sequence[Configuration], split: str = "validation"
) -> tuple[list[int], list[int], dict[str, np.ndarray]]:
    """State_dims, embedding_dims, and accuracy in % by readout, (state_dims, embedding_dims).

    A cell is its best setting's mean over seeds; NaN where nothing finished.
    """
    configs = [setting.config for setting in settings]
    states, embeddings = (sorted({c[f"model.{name}"] for c in configs}) for name in ("state_dim", "embedding_dim"))
    grids = {readout: np.full((len(states), len(embeddings)), np.nan) for readout in _readouts(settings)}
    for setting, config in zip(settings, configs, strict=True):
        cell = states.index(config["model.state_dim"]), embeddings.index(config["model.embedding_dim"])
        grid = grids[config["model.readout"]]
        grid[cell] = np.fmax(grid[cell], 100 * setting.spread(f"{split}/accuracy").mean)
    return states, embeddings, grids


def _readouts(settings: Sequence[Configuration]) -> list[str]:
    """The readouts of ``settings``, in the package's order."""
    found = {setting.config["model.readout"] for setting in settings}
    return [name for name in READOUTS if name in found] + sorted(found - set(READOUTS))


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels, at most three beside each other, each of so many inches."""
    across = min(count, 3)
    down = math.ceil(count / across)
    figure = Figure(figsize=(max(across * width, 6.5), down * height + 1.2))
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def draw_heatmap(
    states: list[int], embeddings: list[int], grids: Mapping[str, np.ndarray], split: str = "validation"
) -> Figure:
    """Draw :func:`heatmap_values`, a panel a readout, with the values in the cells."""
    figure, axes = _panels(len(grids), 0.8 * len(embeddings) + 1.6, 0.6 * len(states) + 1.4)
    low, high = np.nanmin(list(grids.values())), np.nanmax(list(grids.values()))
    for axis, (readout, grid) in zip(axes, grids.items(), strict=True):
        image = axis.imshow(grid, vmin=low, vmax=high, origin="lower", aspect="auto")
        axis.set(title=f"readout {readout}", xlabel="embedding_dim", ylabel="state_dim", facecolor="#eeeeee")
        axis.set_xticks(range(len(embeddings)), map(str, embeddings))
        axis.set_yticks(range(len(states)), map(str, states))
        axis.grid(False)
        axis.spines[:].set_visible(False)
        for (row, column), value in np.ndenumerate(grid):
            text = "–" if np.isnan(value) else f"{value:.1f}"
            # dark cells are those of low values
            dark = value - low < 0.5 * (high - low)
            axis.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
        if axis is axes[-1] and high > low:
            figure.colorbar(image, ax=axes, label=f"{split} accuracy (%)")
    return figure


def draw_accuracies(settings: Sequence[Configuration], panels: Sequence[tuple[str, str]]) -> Figure:
    """Accuracy of each setting against an option or the number of parameters: panels of a split and that key.

    A readout has a colour and a marker; the best setting by validation has a ring.
    """
    panels = [(split, key) for split, key in panels[:MOST_PANELS] if any(found.percent(split) for found in settings)]
    readouts = _readouts(settings)
    readouts = readouts if len(readouts) <= len(MARKERS) else [""]
    names = short_names([key for _, key in panels])
    figure, axes = _panels(len(panels), 4.6, 3.8)
    bars = len(settings) <= MOST_BARS
    look: dict[str, Any] = {"markersize": 7, "capsize": 3} if len(settings) <= 100 else {"markersize": 4, "alpha": 0.5}
    for axis, (split, key) in zip(axes, panels, strict=True):
        values = [each.parameters if key == "parameters" else each.config.get(key) for each in settings]
        places = np.array(_places(axis, names[key], values))
        found = [setting.spread(f"{split}/accuracy") for setting in settings]
        means = 100 * np.array([each.mean for each in found])
        deviations = 100 * np.array([math.nan if each.sd is None else each.sd for each in found])
        low, high = np.nanmin(places), np.nanmax(places)
        for index, readout in enumerate(readouts):
            chosen = [i for i, each in enumerate(settings) if readout in ("", each.config["model.readout"])]
            # where they share a place, readouts stand side by side
            apart = key != "model.readout" and len(set(places)) <= MOST_VALUES
            aside = 0.02 * apart * (index - (len(readouts) - 1) / 2)
            x = places * (high / low) ** aside if axis.get_xscale() == "log" else places + aside * (high - low)
            yerr = deviations[chosen] if bars else None
            look |= {"fmt": MARKERS[index], "color": COLOURS[index], "label": readout if len(readouts) > 1 else ""}
            axis.errorbar(x[chosen], means[chosen], yerr=yerr, **look)
            if 0 in chosen:
                ring = {"markersize": 16, "fillstyle": "none", "color": "black", "label": "best by validation"}
                axis.plot(x[:1], means[:1], "o", **ring)
        axis.set_ylabel(f"{split} accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6)
    return figure


def _places(axis: Axes, name: str, values: Sequence[Any]) -> list[float]:
    """Where ``values`` stand on the x axis of ``axis``, which gets its scale, ticks and label for them."""
    if all(map(is_number, values)):
        distinct = sorted(set(values))
        log = distinct[0] > 0 and distinct[-1] >= 10 * distinct[0]
        scale = math.log if log else float
        axis.set_xscale("log" if log else "linear")
        axis.set_xlabel(f"{name} (log scale)" if log else name)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter(_short)
        if len(distinct) <= MOST_VALUES:
            ticks = distinct[:1]
            for value in distinct:
                # labels that are nearer would overlap
                if scale(value) - scale(ticks[-1]) >= 0.16 * (scale(distinct[-1]) - scale(distinct[0])) > 0:
                    ticks.append(value)
            axis.set_xticks(ticks)
        axis.margins(x=0.12)
        return list(values)
    texts = [clip(shown(value), 14, "…") for value in values]
    # the best first
    kept = list(dict.fromkeys(texts))
    axis.set_xlabel(name if len(kept) <= MOST_VALUES else f"{name} (the best {MOST_VALUES} of {len(kept)})")
    axis.set_xticks(range(len(kept[:MOST_VALUES])), kept[:MOST_VALUES], rotation=30 if len("".join(kept)) > 18 else 0)
    place = {text: float(index) if index < MOST_VALUES else math.nan for index, text in enumerate(kept)}
    # many dots would hide each other
    aside = 0.5 if len(values) > MOST_BARS else 0.0
    axis.margins(x=0.15)
    return [place[text] + aside * (index * 0.618 % 1 - 0.5) for index, text in enumerate(texts)]


def _short(value: float, _: float = 0) -> str:
    """A tick's number: 322k, 1.29M, 0.003."""
    unit, size = ("M", 1e6) if value >= 1e6 else ("k", 1e3) if value >= 1e4 else ("", 1)
    return f"{value / size:.{3 if unit else 4}g}{unit}"


def draw_curves(settings: Sequence[Configuration], keys: Sequence[str]) -> Figure:
    """Loss and accuracy of training and validation by epoch, a line a setting."""
    named, behind = settings[:MOST_CURVES], settings[MOST_CURVES : MOST_CURVES + MOST_BEHIND]
    labels = [textwrap.fill(setting.label(keys), 90) for setting in named]
    columns = 2 if len(named) > 1 and max(map(len, labels)) <= 40 else 1
    lines = sum(label.count("\n") + 1 for label in labels) / columns
    # training and validation have their own scales: one for both would hide what tells settings apart
    figure = Figure(figsize=(10, 7.4 + 0.28 * lines))
    axes = figure.subplots(2, 2, sharex=True)
    for row, (quantity, unit, scale) in enumerate((("loss", "loss (nats)", 1), ("accuracy", "accuracy (%)", 100))):
        for axis, split in zip(axes[row], ("train", "validation"), strict=True):
            metric = f"{split}/{quantity}"
            curves = [curve(setting, metric) for setting in behind]
            faint = [[(epoch, scale * point.mean) for epoch, point in each.items()] for each in curves if each]
            axis.add_collection(LineCollection(faint, colors="#cccccc", linewidths=0.6))
            for setting, label, colour, marker in zip(named, labels, COLOURS, MARKERS, strict=False):
                points = curve(setting, metric)
                means = scale * np.array([point.mean for point in points.values()])
                deviations = scale * np.array([point.sd or 0 for point in points.values()])
                look = {"marker": marker if len(points) <= 15 else None, "markersize": 5, "color": colour}
                axis.plot(list(points), means, label=label, **look)
                if deviations.any():
                    low, high = means - deviations, means + deviations
                    axis.fill_between(list(points), low, high, color=colour, alpha=0.13, linewidth=0)
            axis.set_title(f"{'training' if split == 'train' else split} {quantity}")
            axis.set_ylabel(unit)
            axis.set_xlabel("epoch" if row else "")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    return figure


def curve(setting: Configuration, metric: str) -> dict[int, Spread]:
    """The spread of ``metric`` over the jobs that reached each epoch, by epochs counted from 1."""
    values: dict[int, list[float]] = defaultdict(list)
    for job in setting.jobs:
        for row in job.metrics.get("history", []):
            if is_number(row.get(metric)):
                values[row["epoch"] + 1].append(row[metric])
    return {epoch: spread(values[epoch]) for epoch in sorted(values)}
