"""One-to-one or many-to-one: the same budget without a recurrence, and reviews of other lengths than in training."""

from collections.abc import Sequence
from typing import Any

from experiments.common import COLUMNS, Study, draw_spreads, group_by, panels, percent
from rnn_imdb.common.style import GREY
from rnn_imdb.sweeps.results import Job, Spread, spread

SWEEPS = ("sweep_rnn.yaml", "sweep_dense_500.yaml", "sweep_dense_200.yaml", "sweep_conv.yaml")
LENGTHS = (50, 200, 500, 1000)
NAMES = {
    ("rnn", "last"): "RNN, last state",
    ("rnn", "mean"): "RNN, mean of all states",
    ("dense", "last"): "fully connected",
    ("conv", "last"): "convolution, maximum",
}


def accuracy(study: Study, job: Job, length: int) -> float | None:
    """Test accuracy on the last ``length`` words of each review; None where the model cannot read so many.

    Shorter ones are padded to the length of training for the fully connected model, whose weights are tied to
    positions, and shorter sequences for the others.
    """
    trained = job.config["data.sequence_length"]
    if length == trained:
        return job.metrics["test/accuracy"]
    if job.config["model.encoder"] == "dense":
        if length > trained:
            return None
        return study.evaluate(job, f"last_{length}", last_words=length)["test/accuracy"]
    return study.evaluate(job, f"length_{length}", sequence_length=length)["test/accuracy"]


def draw(points: dict[tuple[int, str], dict[int, Spread]]) -> Any:
    trained = sorted({length for length, _ in points})
    title, xlabel = (
        "Reviews of other lengths than in training (mean ± sd over seeds)",
        "words read of a test review, at most",
    )
    figure, axes = panels(title, [f"trained on {n} words (dashed)" for n in trained], xlabel, "test accuracy (%)")
    for axis, length in zip(axes, trained, strict=True):
        for number, name in enumerate(NAMES.values()):
            draw_spreads(axis, points.get((length, name), {}), number, name)
        axis.axvline(length, color=GREY, linestyle="--")
        axis.set(xscale="log")
        axis.set_xticks(LENGTHS, map(str, LENGTHS), minor=False)
        axis.minorticks_off()
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "RNN, fully connected and convolutional at one budget, and other lengths.", arguments)
    jobs = [job for file in SWEEPS for job in study.sweep(file)]
    lengths = LENGTHS[:: 3 if study.short else 1]
    raw: list[dict[str, Any]] = []
    rows = []
    points: dict[tuple[int, str], dict[int, Spread]] = {}
    groups = group_by(jobs, "model.encoder", "model.readout", "data.sequence_length")
    for (encoder, readout, trained), same in groups.items():
        name, means = NAMES[encoder, readout], {}
        for length in lengths:
            found = {job.config["seed"]: accuracy(study, job, length) for job in same}
            values = {seed: value for seed, value in found.items() if value is not None}
            shared = {"model": name, "trained_on": trained, "read": length}
            count = {"parameters": same[0].metrics["parameters"]}
            raw += [
                shared | {"seed": seed} | count | {"test/accuracy": round(value, 4)} for seed, value in values.items()
            ]
            if values:
                means[length] = spread(list(values.values()))
        points[trained, name] = means
        cells = [percent(means[length]) if length in means else "cannot" for length in lengths]
        budget, validation = (COLUMNS[column](same) for column in ("parameters", "validation %"))
        rows.append((name, budget, trained, validation, *cells))
    study.write_rows(raw)
    header = ("model", "parameters", "trained on", "validation %", *(f"test, {length} words" for length in lengths))
    study.write_table(header, rows)
    study.save(lambda: draw(points), "lengths.png")


if __name__ == "__main__":
    main()
