"""The lecture's two models, the last state or all states, beside Keras on the same encoded arrays."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.common import Study, draw_dots, group_by, rows_of
from rnn_imdb import lecture_keras
from rnn_imdb.common.files import CONFIG, read_json, read_yaml, write_atomically
from rnn_imdb.common.style import COLOURS
from rnn_imdb.sweeps.results import Job
from rnn_imdb.training.trainer import build_data

KERAS = "Keras on JAX"
KEYS = ("program", "model.readout")


def in_keras(study: Study, job: Job) -> Job:
    """The lecture's program in Keras, with the readout, seed, reviews and epochs of ``job``."""
    file = study.runs / f"{study.name}_keras" / f"{job.config['model.readout']}_{job.config['seed']}.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(_train_keras(study, job)).encode())
    return Job(file, job.config | {"program": KERAS}, read_json(file))


def _train_keras(study: Study, job: Job) -> dict[str, Any]:
    nowhere = {"root": None, "cache_dir": None}
    data = build_data(read_yaml(job.folder / CONFIG)["data"] | nowhere | study.places(job))
    arrays = {}
    for name in ("train", "validation", "test"):
        split, some = data.split(name), slice(64 if study.short else None)
        arrays[name] = np.asarray(split.tokens, np.int32)[some], np.asarray(split.labels, np.float32)[some]
    model = lecture_keras.lecture_model(
        job.config["model.readout"], seed=job.config["seed"], sequence_length=job.config["data.sequence_length"]
    )
    best: dict[str, Any] = {"validation/loss": float("inf")}
    weights = model.get_weights()
    for epoch in range(1, job.config["trainer.max_epochs"] + 1):
        model.fit(*arrays["train"], batch_size=job.config["data.batch_size"], verbose=0)
        loss, accuracy = model.evaluate(*arrays["validation"], batch_size=250, verbose=0)
        if loss < best["validation/loss"]:
            best = {"best_epoch": epoch, "validation/loss": loss, "validation/accuracy": accuracy}
            weights = model.get_weights()
    model.set_weights(weights)
    best["test/loss"], best["test/accuracy"] = model.evaluate(*arrays["test"], batch_size=250, verbose=0)
    return {"parameters": model.count_params()} | best


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "The last state or all states, beside Keras.", arguments)
    jobs = [replace(job, config=job.config | {"program": "rnn_imdb"}) for job in study.sweep()]
    programs = ["rnn_imdb"]
    if lecture_keras.available():
        jobs += [in_keras(study, job) for job in jobs]
        programs.append(KERAS)
    else:
        print("Keras is left out: pip install -e '.[peers]' brings it in")
    study.write_rows([{name: value for name, value in row.items() if name != "seconds"} for row in rows_of(jobs, KEYS)])
    found = group_by(jobs, "model.readout", "program")
    groups = {(readout, program): found[readout, program] for readout in ("last", "all") for program in programs}
    columns = ("parameters", "validation %", "test %", "best epochs")
    study.write_summary(("readout", "program"), groups, columns)
    dots = {
        f"{readout} state{'s' * (readout == 'all')}, {program}": [job.metrics for job in jobs]
        for (readout, program), jobs in groups.items()
    }
    colours = [*COLOURS[: len(programs)]] * 2
    study.save(lambda: draw_dots("The last state or all states", dots, colours), "accuracy.png")


if __name__ == "__main__":
    main()
