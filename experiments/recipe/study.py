"""The recipe: initialisation x optimizer. What makes the naive port of the lecture's program fail."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import Study, group_by, over_seeds, percent, rows_of
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 5))
    for axis, (init, title) in zip(figure.subplots(1, len(INITS), sharey=True), INITS.items(), strict=True):
        for number, name in enumerate(OPTIMIZERS):
            for seed, values in enumerate(curves[init, name]):
                epochs = range(1, len(values) + 1)
                axis.plot(epochs, [100 * value for value in values], f"{MARKERS[number]}-", color=COLOURS[number],
                          alpha=0.7, label=name if seed == 0 else None)  # fmt: skip
        axis.set_title(title)
        axis.set_xlabel("epoch")
        axis.set_xticks(range(1, max(len(values) for lines in curves.values() for values in lines) + 1))
    figure.axes[0].set_ylabel("validation accuracy (%)")
    figure.suptitle("Which initialisation and optimizer learn in three epochs; a line is a seed")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(OPTIMIZERS))
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "Initialisation x optimizer, for the last state.", arguments)
    jobs = [*study.sweep("sweep_rmsprop.yaml"), *study.sweep("sweep_adam.yaml")]
    study.write_rows(
        [{"optimizer": optimizer(job)} | row for job, row in zip(jobs, rows_of(jobs, ("model.init",)), strict=True)]
    )
    rows, curves = [], {}
    for (init,), same in group_by(jobs, "model.init").items():
        for name in OPTIMIZERS:
            found = [job for job in same if optimizer(job) == name]
            histories = [[row["validation/accuracy"] for row in job.metrics["history"]] for job in found]
            curves[init, name] = histories
            first = percent(spread([values[0] for values in histories]))
            figures = [percent(over_seeds(found, metric)) for metric in ("validation/accuracy", "test/accuracy")]
            rows.append((INITS[init], name, first, *figures))
    header = ("initialisation", "optimizer", "validation % after epoch 1", "validation %", "test %")
    study.write_table(header, rows)
    study.save(lambda: draw(curves), "curves.png")


if __name__ == "__main__":
    main()
