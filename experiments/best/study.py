"""How far one tanh layer goes: ``experiment=best`` over five seeds, and what each of its levers is worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import Study, over_seeds, percent, rows_of
from rnn_imdb.sweeps.results import Job

# what is removed, and the options that remove it
LEVERS: dict[str, Sequence[str]] = {
    "the recurrence (A's part held at zero)": ("model.recurrent=false",),
    "attention (the mean of all states)": ("model.readout=mean",),
    "pairs of words": ("model.bigrams=0",),
    "the falling rate (0.001 throughout)": ("optimizer.learning_rate=0.001", "optimizer.schedule=constant"),
    "small batches (32)": ("data.batch_size=32",),
    "word dropout": ("model.word_dropout=0",),
    "half of the sizes (32 and 32)": ("model.state_dim=32", "model.embedding_dim=32"),
}


def draw(groups: Mapping[str, Sequence[Job]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 0.8 + 0.4 * len(groups)))
    axis = figure.subplots()
    for position, jobs in enumerate(groups.values()):
        values = [100 * job.metrics["test/accuracy"] for job in jobs]
        colour = "C0" if position == 0 else "C1"
        axis.plot(values, [position] * len(values), "o", alpha=0.6, color=colour)
        axis.plot(sum(values) / len(values), position, "|", markersize=18, color=colour)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.invert_yaxis()
    axis.set_xlabel("test accuracy, %; a dot is a seed, a bar their mean")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "The best single tanh layer, and its levers one by one.", arguments)
    groups = {"experiment=best": study.sweep()}
    for lever, options in list(LEVERS.items())[: 1 if study.short else None]:
        groups[f"without {lever}"] = study.sweep("ablations.yaml", *options, part=lever)
    study.write_rows([{"model": name} | row for name, jobs in groups.items() for row in rows_of(jobs, ())])
    rows = [
        (
            name,
            len(jobs),
            f"{jobs[0].metrics['parameters']:,}",
            percent(over_seeds(jobs, "validation/accuracy")),
            percent(over_seeds(jobs, "test/accuracy")),
            f"{over_seeds(jobs, 'seconds').mean / 60:.1f}",
        )
        for name, jobs in groups.items()
    ]
    study.write_table(("model", "seeds", "parameters", "validation %", "test %", "minutes a seed"), rows)
    study.save(lambda: draw(groups), "accuracy.png")


if __name__ == "__main__":
    main()
