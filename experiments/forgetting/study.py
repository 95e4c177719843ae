"""Forgetting: how many of the last words decide, what the first words alone are worth, what reaches the last state."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from experiments.common import Study, draw_spreads, panels, percent
from rnn_imdb.common.style import COLOURS, GREY
from rnn_imdb.insight.callbacks import sample
from rnn_imdb.insight.forgetting import forgetting_curve, influence, memory_length, typical_curve
from rnn_imdb.model.rnn import ReviewClassifier
from rnn_imdb.sweeps.results import Job, Spread, spread
from rnn_imdb.training import environment
from rnn_imdb.training.checkpoint import build_classifier, open_checkpoint
from rnn_imdb.training.trainer import build_data

READOUTS = ("last", "all")
SIDES = ("first", "last")
WHEN = ("before", "after")
WORDS = (10, 20, 50, 100, 200, 350, 500)
# in a --short trial
FEW_WORDS = (10, 50)
# validation reviews that the curves of the last state are taken over
REVIEWS = 100
# how reviews are taken together: one where much is left after many steps outweighs all others in the mean
MEMORY_LENGTHS = {"memory_length": forgetting_curve, "typical_memory_length": typical_curve}
CPU = torch.device("cpu")

# what is measured, at which epoch, number of words or lag, and how much
Measurement = tuple[str, int, float]
# (readout, what) -> at -> over seeds
Results = Mapping[tuple[str, str], Mapping[int, Spread]]


def state_influence(classifier: ReviewClassifier, tokens: Int64[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
    """Influence on the last state of the word that k others follow, for each review,

        J_k = ‖∂h_T / ∂x_{T-k}‖_F = ‖P_k A_x‖_F        P_0 = D_T,  P_k = P_{k-1} W D_{T-k},  D_t = diag(1 - h_t²)

    with W and A_x the recurrent and the input part of A.

    Args:
        classifier: with a tanh, and padding a word like others.
        tokens: reviews, (B, T).

    Returns:
        J_0 .. J_{T-1} of each review, (B, T), float64: far words have influences that float32 cannot hold.
    """
    with torch.no_grad():
        weight, input_weight = classifier.cell.recurrent_weight.double(), classifier.cell.input_weight.double()
        slopes = 1 - classifier.cell(classifier.embed(tokens)).double().square()  # (B, T, H)
        product = torch.diag_embed(slopes[:, -1])  # P_0, (B, H, H)
        norms = [torch.linalg.matrix_norm(product @ input_weight)]
        for slope in slopes[:, :-1].flip(1).unbind(1):
            product = product @ weight * slope[:, None]
            norms.append(torch.linalg.matrix_norm(product @ input_weight))
    return torch.stack(norms, dim=1)


def before_and_after(job: Job) -> tuple[ReviewClassifier, ReviewClassifier]:
    """The classifier as the training drew it, and as its best epoch left it."""
    opened = open_checkpoint(job.folder)
    environment.start(opened.config["seed"])
    before, after = build_classifier(opened.config, len(opened.vocabulary)).eval(), opened.classifier()
    assert isinstance(before, ReviewClassifier)
    assert isinstance(after, ReviewClassifier)
    return before, after


def validation_reviews(job: Job, count: int) -> Tensor:
    """Tokens (B, T) of ``count`` validation reviews, those that the callback looks at."""
    opened = open_checkpoint(job.folder)
    return sample(build_data(opened.config["data"], vocabulary=opened.vocabulary).split("validation"), count, CPU)


def measure(study: Study, job: Job) -> Iterator[Measurement]:
    """Memory lengths before the training and after each epoch, and accuracies by the words read."""
    untrained, _ = before_and_after(job)
    norms = influence(untrained, validation_reviews(job, job.config["callbacks.forgetting.reviews"]))
    logged = EventAccumulator(str(job.folder)).Reload()
    for what, curve in MEMORY_LENGTHS.items():
        yield what, 0, memory_length(curve(norms))
        for epoch, event in enumerate(logged.Scalars(f"insight/{what}"), start=1):
            yield what, epoch, event.value

    yield "accuracy_all", job.config["data.sequence_length"], job.metrics["test/accuracy"]
    for side in SIDES:
        for words in FEW_WORDS if study.short else WORDS:
            figures = study.evaluate(job, f"{side}_{words}_words", **{f"{side}_words": words})
            yield f"accuracy_{side}", words, figures["test/accuracy"]


def influence_rows(job: Job) -> list[dict[str, Any]]:
    """Mean and median over reviews of the influence on the last state, before and after the training; a row a lag."""
    tokens = validation_reviews(job, REVIEWS)
    curves = {}
    for when, classifier in zip(WHEN, before_and_after(job), strict=True):
        norms = state_influence(classifier, tokens)
        curves |= {f"mean_{when}": norms.mean(0), f"median_{when}": norms.median(0).values}
    seed = {"seed": job.config["seed"]}
    return [
        seed | {"lag": lag} | {name: _rounded(float(curve[lag])) for name, curve in curves.items()}
        for lag in range(tokens.shape[1])
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> Results:
    found: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        found.setdefault((row["readout"], row["what"]), {}).setdefault(row["at"], []).append(row["value"])
    return {key: {at: spread(values) for at, values in places.items()} for key, places in found.items()}


def draw_words(results: Results) -> Any:
    title = "Which words decide: accuracy on the first or the last k words (mean ± sd over seeds)"
    titles = ["the last state decides", "all states decide"]
    figure, axes = panels(title, titles, "k, words read of a test review", "test accuracy (%)")
    for axis, readout in zip(axes, READOUTS, strict=True):
        for number, side in enumerate(SIDES):
            draw_spreads(axis, results[readout, f"accuracy_{side}"], number, f"the {side} k words")
        ((_, whole),) = results[readout, "accuracy_all"].items()
        axis.axhline(100 * whole.mean, color="black", linestyle=":", label="the whole review")
        axis.axhline(50, color=GREY, linestyle="--", label="chance")
        axis.set(xscale="log")
        axis.set_xticks(WORDS, map(str, WORDS))
        axis.minorticks_off()
    return figure


def draw_influence(rows: Sequence[Mapping[str, Any]]) -> Any:
    title, xlabel = (
        "How much of a word is left in the last state, by the words that follow",
        r"lag $T - t$, words after the one at $t$",
    )
    ylabel = r"influence $\|\partial h_T / \partial x_t\|_F$"
    figure, axes = panels(title, [f"{when} the training" for when in WHEN], xlabel, ylabel)
    for axis, when in zip(axes, WHEN, strict=True):
        for line, colour in zip(("mean", "median"), COLOURS, strict=False):
            for number, seed in enumerate(dict.fromkeys(row["seed"] for row in rows)):
                values = [row[f"{line}_{when}"] for row in rows if row["seed"] == seed]
                label = None if number else f"{line} over reviews; a line is a seed"
                axis.plot(values, color=colour, linewidth=1.4, label=label)
        axis.set(yscale="log")
    return figure


def table(results: Results, rows: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Header and rows. A mean with a memory length that does not end within the review is a lower bound, ≥."""
    read = {row["readout"]: row["at"] for row in rows if row["what"] == "accuracy_all"}
    cut = {(row["readout"], row["what"], row["at"]) for row in rows if row["value"] == read[row["readout"]]}
    header = ("deciding", "memory length", "typical memory length", "test %", "first 50 words", "last 50 words")
    lines = []
    for readout in READOUTS:
        # before the training, and after each epoch
        lengths = [
            " → ".join(
                "≥ " * ((readout, name, epoch) in cut) + length.text(".0f")
                for epoch, length in results[readout, name].items()
            )
            for name in MEMORY_LENGTHS
        ]
        (whole,) = results[readout, "accuracy_all"].values()
        accuracies = [whole, *(results[readout, f"accuracy_{side}"][50] for side in SIDES)]
        lines.append(("last state" if readout == "last" else "all states", *lengths, *map(percent, accuracies)))
    return header, lines


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "What the RNN forgets: memory length, first and last words, the last state.", arguments)
    jobs = study.sweep()
    rows = [
        {"readout": job.config["model.readout"], "seed": job.config["seed"]}
        | {"what": what, "at": at, "value": _rounded(value)}
        for job in jobs
        for what, at, value in measure(study, job)
    ]
    study.write_rows(rows)
    results = over_seeds(rows)
    study.write_table(*table(results, rows))
    study.save(lambda: draw_words(results), "words.png")

    influences = [row for job in jobs if job.config["model.readout"] == "last" for row in influence_rows(job)]
    study.write_rows(influences, "influence.csv")
    study.save(lambda: draw_influence(influences), "influence.png")


if __name__ == "__main__":
    main()
