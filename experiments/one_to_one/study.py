"""One-to-one or many-to-one: the same budget without a recurrence, and reviews of other lengths than in training."""

from collections.abc import Sequence
from typing import Any

from experiments.common import Study, group_by, over_seeds, percent
from rnn_imdb.common.style import GREY, MARKERS
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
    from matplotlib.figure import Figure

    trained = sorted({key[0] for key in points})
    figure = Figure(figsize=(10.5, 5.2))
    for axis, length in zip(figure.subplots(1, len(trained), sharey=True, squeeze=False)[0], trained, strict=True):
        for number, name in enumerate(NAMES.values()):
            found = points.get((length, name), {})
            means = [100 * value.mean for value in found.values()]
            errors = [100 * (value.sd or 0) for value in found.values()]
            axis.errorbar(list(found), means, errors, fmt=f"{MARKERS[number]}-", capsize=3, label=name)
        axis.axvline(length, color=GREY, linestyle="--")
        axis.set_xscale("log")
        axis.set_xticks(LENGTHS, [str(value) for value in LENGTHS])
        axis.minorticks_off()
        axis.set_xlabel("words read of a test review, at most")
        axis.set_title(f"trained on {length} words (dashed)")
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.suptitle("Reviews of other lengths than in training (mean ± sd over seeds)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "RNN, fully connected and convolutional at one budget, and other lengths.", arguments)
    jobs = [job for file in SWEEPS for job in study.sweep(file)]
    raw: list[dict[str, Any]] = []
    rows = []
    points: dict[tuple[int, str], dict[int, Spread]] = {}
    for (encoder, readout, trained), same in group_by(
        jobs, "model.encoder", "model.readout", "data.sequence_length"
    ).items():
        name = NAMES[encoder, readout]
        cells = []
        for length in LENGTHS[:: 3 if study.short else 1]:
            found = [accuracy(study, job, length) for job in same]
            values = [value for value in found if value is not None]
            raw += [
                {"model": name, "trained_on": trained, "read": length, "seed": job.config["seed"],
                 "parameters": job.metrics["parameters"], "test/accuracy": round(value, 4)}
                for job, value in zip(same, values, strict=bool(values))
            ]  # fmt: skip
            mean = spread(values)
            cells.append(percent(mean) or "cannot")
            if mean.n:
                points.setdefault((trained, name), {})[length] = mean
        budget = f"{same[0].metrics['parameters']:,}"
        rows.append((name, budget, trained, percent(over_seeds(same, "validation/accuracy")), *cells))
    study.write_rows(raw)
    header = ("model", "parameters", "trained on", "validation %", *(f"test, {n} words" for n in LENGTHS))
    study.write_table(header[: len(rows[0])], rows)
    study.save(lambda: draw(points), "lengths.png")


if __name__ == "__main__":
    main()
