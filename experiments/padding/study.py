"""Padding: in front of a review or behind it, masked or not, for the last state. Why the side matters."""

from collections.abc import Sequence
from typing import Any

from experiments.common import Study, draw_dots, group_by, over_seeds, percent, rows_of
from rnn_imdb.common.style import BLUE, GREY
from rnn_imdb.sweeps.results import Job

KEYS = ("data.padding", "model.mask_padding")
NAMES = {
    ("pre", False): "in front, a word like others (the lecture)",
    ("pre", True): "in front, skipped",
    ("post", False): "behind, a word like others",
    ("post", True): "behind, skipped",
}


def draw(groups: dict[tuple[Any, ...], list[Job]]) -> Any:
    rows = {name: groups[key] for key, name in NAMES.items()}
    figure = draw_dots("Padding in front of a review or behind it; dashed: chance", rows, [BLUE] * len(rows))
    figure.axes[0].axvline(50, color=GREY, linestyle="--")
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
