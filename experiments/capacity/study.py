"""Capacity: where do parameters help, and where does the model overfit."""

from collections.abc import Sequence
from typing import Any

from experiments.common import Study, group_by, rows_of
from rnn_imdb.sweeps.results import Job, rank_configurations

KEYS = ("model.readout", "model.state_dim", "model.embedding_dim")


def draw(jobs: Sequence[Job]) -> Any:
    from rnn_imdb.sweeps.plots import draw_heatmap, heatmap_values

    figure = draw_heatmap(*heatmap_values(rank_configurations(jobs), "test"), "test")
    figure.suptitle("Test accuracy by size and readout, mean over seeds")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "Accuracy over state_dim, embedding_dim and readout.", arguments)
    jobs = study.sweep()
    study.write_rows(rows_of(jobs, KEYS))
    names = [key.partition(".")[2] for key in KEYS]
    study.write_summary(names, group_by(jobs, *KEYS), ("parameters", "validation %", "test %", "overfit"))
    study.save(lambda: draw(jobs), "accuracy.png")


if __name__ == "__main__":
    main()
