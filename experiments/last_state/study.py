"""How far the last state goes: ``experiment=best_last`` beside the lecture's model, and each of its levers removed."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from experiments.common import Study, draw_dots, draw_spreads, panels, rows_of
from rnn_imdb.common.style import BLUE, COLOURS, GREY, ORANGE
from rnn_imdb.insight.callbacks import sample
from rnn_imdb.insight.forgetting import influence, memory_length, typical_curve
from rnn_imdb.sweeps.results import Job, spread
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.trainer import build_data

BEFORE, AFTER = "the lecture's model", "experiment=best_last"
# what is removed, and the options that remove it
LEVERS: dict[str, Sequence[str]] = {
    "the loss after each word": ("optimizer.target_replication=0",),
    "dropout": ("model.embedding_dropout=0",),
    "the recurrence (A's part held at zero, the mean of all states)": (
        *("model.recurrent=false", "model.readout=mean", "optimizer.target_replication=0"),
    ),
}
WORDS = (20, 50, 100, 200)
# in a --short trial
FEW_WORDS = (10, 50)
# validation reviews that the influence is taken over
REVIEWS = 250

# (which side, how many words) -> accuracy
Words = Mapping[tuple[str, int], float]


def influence_of(job: Job) -> list[float]:
    """Influence on the logit of the word that k others follow, k = 0, 1, ...: the median over validation reviews."""
    opened = open_checkpoint(job.folder)
    split = build_data(opened.config["data"], vocabulary=opened.vocabulary).split("validation")
    classifier = opened.classifier()
    return typical_curve(influence(classifier, sample(split, REVIEWS, torch.device("cpu")))).tolist()


def words_of(study: Study, job: Job) -> Words:
    """Validation accuracy on the first and on the last k words."""
    return {
        (side, k): study.evaluate(job, f"{side}_{k}_words", "validation", **{f"{side}_words": k})["validation/accuracy"]
        for side in ("first", "last")
        for k in (FEW_WORDS if study.short else WORDS)
    }


def draw_memory(curves: Mapping[str, Sequence[Sequence[float]]], words: Mapping[str, Sequence[Words]]) -> Any:
    titles = ("a line: one seed, in the colour of the first words", "mean ± sd over seeds")
    figure, (read, lags) = panels("What the last state still knows", titles[::-1], "", "", sharey=False)
    for number, (name, seeds) in enumerate(words.items()):
        for side in ("first", "last"):
            ks = [k for found, k in seeds[0] if found == side]
            accuracies = {k: spread([seed[side, k] for seed in seeds]) for k in ks}
            draw_spreads(read, accuracies, 2 * number + (side == "last"), f"{name}: the {side} k words")
        for curve in curves[name]:
            lags.plot([value / max(curve) for value in curve], color=COLOURS[2 * number])
    read.set(xscale="log", xlabel="k, words read of a review", ylabel="validation accuracy (%)")
    read.set_xticks(WORDS, [str(words) for words in WORDS])
    read.minorticks_off()
    lags.set(yscale="log", ylim=(1e-8, 2), xlabel="words that follow", ylabel="influence / its maximum")
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "How far the last state of one tanh layer goes, and whether it still forgets.", arguments)
    groups = {BEFORE: study.sweep("before.yaml"), AFTER: study.sweep()}
    compared = {name: groups[name] for name in (BEFORE, AFTER)}
    for lever, options in list(LEVERS.items())[: 1 if study.short else None]:
        groups[f"without {lever}"] = study.sweep("ablations.yaml", *options, part=lever)
    study.write_rows([{"model": name} | row for name, jobs in groups.items() for row in rows_of(jobs, ())])
    study.write_summary(["model"], groups, ("seeds", "parameters", "validation %", "test %", "minutes a seed"))

    curves = {name: [influence_of(job) for job in jobs] for name, jobs in compared.items()}
    words = {name: [words_of(study, job) for job in jobs] for name, jobs in compared.items()}
    rows: list[dict[str, Any]] = []
    for name, jobs in compared.items():
        for job, curve, accuracies in zip(jobs, curves[name], words[name], strict=True):
            seed = {"model": name, "seed": job.config["seed"]}
            rows.append(seed | {"what": "memory_length", "k": "", "value": memory_length(torch.tensor(curve))})
            rows += [seed | {"what": "influence", "k": k, "value": f"{value:.4g}"} for k, value in enumerate(curve)]
            rows += [
                seed | {"what": f"accuracy_{side}", "k": k, "value": f"{value:.4f}"}
                for (side, k), value in accuracies.items()
            ]
    study.write_rows(rows, "memory.csv")
    study.save(lambda: draw_memory(curves, words), "memory.png")
    dots = {name: [job.metrics for job in jobs] for name, jobs in groups.items()}
    colours = [GREY, BLUE] + [ORANGE] * (len(groups) - 2)
    study.save(lambda: draw_dots("The last state decides", dots, colours), "accuracy.png")


if __name__ == "__main__":
    main()
