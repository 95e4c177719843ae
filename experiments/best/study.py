"""How far one tanh layer goes: ``experiment=best`` over five seeds, and what each of its levers is worth."""

from collections.abc import Sequence

from experiments.common import Study, draw_dots, rows_of
from rnn_imdb.common.style import BLUE, ORANGE

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


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "The best single tanh layer, and its levers one by one.", arguments)
    groups = {"experiment=best": study.sweep()}
    for lever, options in list(LEVERS.items())[: 1 if study.short else None]:
        groups[f"without {lever}"] = study.sweep("ablations.yaml", *options, part=lever)
    study.write_rows([{"model": name} | row for name, jobs in groups.items() for row in rows_of(jobs, ())])
    columns = ("seeds", "parameters", "validation %", "test %", "minutes a seed")
    study.write_summary(["model"], groups, columns)
    dots = {name: [job.metrics for job in jobs] for name, jobs in groups.items()}
    colours = [BLUE] + [ORANGE] * (len(groups) - 1)
    title = "One tanh layer at its best, and without each of its levers"
    study.save(lambda: draw_dots(title, dots, colours), "accuracy.png")


if __name__ == "__main__":
    main()
