"""Capacity: where do parameters help, and where does the model overfit."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import Study, group_by, over_seeds, percent, rows_of
from rnn_imdb.sweeps.results import Job

KEYS = ("model.readout", "model.state_dim", "model.embedding_dim")
Groups = Mapping[tuple[Any, ...], Sequence[Job]]


def overfit(jobs: Sequence[Job]) -> float:
    """Mean over seeds of (validation loss of the last epoch - lowest validation loss): what training on costs."""
    rises = []
    for job in jobs:
        losses = [row["validation/loss"] for row in job.metrics["history"]]
        rises.append(losses[-1] - min(losses))
    return sum(rises) / len(rises)


def draw(groups: Groups) -> Any:
    from matplotlib.figure import Figure

    readouts = list(dict.fromkeys(key[0] for key in groups))
    sizes = [list(dict.fromkeys(sorted(key[i] for key in groups))) for i in (1, 2)]
    means = {key: 100 * over_seeds(jobs, "test/accuracy").mean for key, jobs in groups.items()}
    low, high = min(means.values()), max(means.values())
    across = min(len(readouts), 3)
    figure = Figure(figsize=(3.2 * across, 0.6 + 3.1 * math.ceil(len(readouts) / across)))
    axes = figure.subplots(math.ceil(len(readouts) / across), across, squeeze=False).ravel()
    for axis, readout in zip(axes, readouts, strict=False):
        values = [[means[readout, state, embedding] for embedding in sizes[1]] for state in sizes[0]]
        axis.imshow(values, vmin=low, vmax=high, aspect="auto")
        for row, line in enumerate(values):
            for column, value in enumerate(line):
                colour = "white" if value < (low + high) / 2 else "black"
                axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour)
        axis.set_xticks(range(len(sizes[1])), sizes[1])
        axis.set_yticks(range(len(sizes[0])), sizes[0])
        axis.set(title=f"readout {readout}", xlabel="embedding_dim", ylabel="state_dim")
        axis.grid(False)
    for axis in axes[len(readouts) :]:
        axis.set_visible(False)
    figure.suptitle("Test accuracy (%) by size and readout, mean over seeds")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "Accuracy over state_dim, embedding_dim and readout.", arguments)
    jobs = study.sweep()
    study.write_rows(rows_of(jobs, KEYS))
    groups = group_by(jobs, *KEYS)
    rows = [
        (
            readout,
            state,
            embedding,
            f"{jobs[0].metrics['parameters']:,}",
            percent(over_seeds(jobs, "validation/accuracy")),
            percent(over_seeds(jobs, "test/accuracy")),
            f"{overfit(jobs):.3f}",
        )
        for (readout, state, embedding), jobs in groups.items()
    ]
    header = ("readout", "state_dim", "embedding_dim", "parameters", "validation %", "test %", "overfit")
    study.write_table(header, rows)
    study.save(lambda: draw(groups), "accuracy.png")


if __name__ == "__main__":
    main()
