"""The recipe: initialisation x optimizer. What makes the naive port of the lecture's program fail."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import COLUMNS, Study, panels, percent, rows_of
from rnn_imdb.common.style import COLOURS, MARKERS
from rnn_imdb.sweeps.results import Job, spread

INITS = {"keras": "Keras's initialisation", "torch": "torch's initialisation"}
OPTIMIZERS = ("RMSprop, alpha 0.9 (Keras)", "RMSprop, alpha 0.99 (torch)", "Adam")


def optimizer(job: Job) -> str:
    """The name of the optimizer's setting."""
    if job.config["optimizer.name"] == "adam":
        return OPTIMIZERS[2]
    return OPTIMIZERS[0 if job.config["optimizer.alpha"] == 0.9 else 1]


def draw(curves: Mapping[tuple[str, str], Sequence[Sequence[float]]]) -> Any:
    title = "Which initialisation and optimizer learn in three epochs; a line is a seed"
    figure, axes = panels(title, list(INITS.values()), "epoch", "validation accuracy (%)")
    for axis, init in zip(axes, INITS, strict=True):
        for number, name in enumerate(OPTIMIZERS):
            style = {"marker": MARKERS[number], "color": COLOURS[number], "alpha": 0.7}
            for seed, values in enumerate(curves[init, name]):
                axis.plot([100 * value for value in values], **style, label=None if seed else name)
        epochs = range(max(len(values) for lines in curves.values() for values in lines))
        axis.set_xticks(epochs, [epoch + 1 for epoch in epochs])
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "Initialisation x optimizer, for the last state.", arguments)
    jobs = [*study.sweep("sweep_rmsprop.yaml"), *study.sweep("sweep_adam.yaml")]
    study.write_rows(
        [{"optimizer": optimizer(job)} | row for job, row in zip(jobs, rows_of(jobs, ("model.init",)), strict=True)]
    )
    rows, curves = [], {}
    for init, title in INITS.items():
        for name in OPTIMIZERS:
            found = [job for job in jobs if (job.config["model.init"], optimizer(job)) == (init, name)]
            curves[init, name] = [[row["validation/accuracy"] for row in job.metrics["history"]] for job in found]
            first = percent(spread([values[0] for values in curves[init, name]]))
            rows.append((title, name, first, *(COLUMNS[column](found) for column in ("validation %", "test %"))))
    header = ("initialisation", "optimizer", "validation % after epoch 1", "validation %", "test %")
    study.write_table(header, rows)
    study.save(lambda: draw(curves), "curves.png")


if __name__ == "__main__":
    main()
