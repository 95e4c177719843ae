"""Padding: in front of a review or behind it, masked or not, for the last state. Why the side matters."""

from collections.abc import Sequence
from typing import Any

from experiments.common import Study, group_by, over_seeds, percent, rows_of

KEYS = ("data.padding", "model.mask_padding")
NAMES = {
    ("pre", False): "in front, a word like others (the lecture)",
    ("pre", True): "in front, skipped",
    ("post", False): "behind, a word like others",
    ("post", True): "behind, skipped",
}


def draw(groups: dict[tuple[Any, ...], list[Any]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3.2))
    axis = figure.subplots()
    for position, (key, name) in enumerate(NAMES.items()):
        for seed, job in enumerate(groups[key]):
            axis.plot(100 * job.metrics["test/accuracy"], position + 0.08 * (seed - 2), "o", color=f"C{position}")
        axis.text(0.0, position, name, transform=axis.get_yaxis_transform(), ha="right", va="center")
    axis.set_yticks([])
    axis.invert_yaxis()
    axis.axvline(50, color="grey", linestyle="--")
    axis.set_xlabel("test accuracy, % (dashed: chance); a dot is a seed")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "Padding in front or behind, masked or not.", arguments)
    jobs = study.sweep()
    study.write_rows(rows_of(jobs, KEYS))
    groups = group_by(jobs, *KEYS)
    header = ("padding", "validation %", "test %", "best epochs")
    rows = [
        (
            name,
            percent(over_seeds(groups[key], "validation/accuracy")),
            percent(over_seeds(groups[key], "test/accuracy")),
            " ".join(str(job.metrics["best_epoch"]) for job in groups[key]),
        )
        for key, name in NAMES.items()
    ]
    study.write_table(header, rows)
    study.save(lambda: draw(groups), "accuracy.png")


if __name__ == "__main__":
    main()
