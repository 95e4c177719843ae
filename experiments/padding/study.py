"""Padding: in front of a review or behind it, masked or not, for the last state. Why the side matters."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common import Study, draw_dots, group_by, rows_of
from rnn_imdb.common.style import BLUE, GREY
from rnn_imdb.sweeps.results import Job

KEYS = ("data.padding", "model.mask_padding")
NAMES = {
    ("pre", False): "in front, a word like others (the lecture)",
    ("pre", True): "in front, skipped",
    ("post", False): "behind, a word like others",
    ("post", True): "behind, skipped",
}


def draw(groups: Mapping[str, Sequence[Job]]) -> Any:
    rows = {name: [job.metrics for job in jobs] for name, jobs in groups.items()}
    figure = draw_dots("Padding in front of a review or behind it; dashed: chance", rows, [BLUE] * len(rows))
    figure.axes[0].axvline(50, color=GREY, linestyle="--")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "Padding in front or behind, masked or not.", arguments)
    jobs = study.sweep()
    study.write_rows(rows_of(jobs, KEYS))
    found = group_by(jobs, *KEYS)
    groups = {name: found[key] for key, name in NAMES.items()}
    study.write_summary(["padding"], groups, ("validation %", "test %", "best epochs"))
    study.save(lambda: draw(groups), "accuracy.png")


if __name__ == "__main__":
    main()
