"""The lecture's two models, the last state or all states, beside Keras on the same encoded arrays."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.common import Study, draw_dots, percent, rows_of
from rnn_imdb import lecture_keras
from rnn_imdb.common.files import CONFIG, read_json, read_yaml, write_atomically
from rnn_imdb.common.style import COLOURS
from rnn_imdb.sweeps.results import Job, spread
from rnn_imdb.training.trainer import build_data

READOUTS = ("last", "all")
FIGURES = ("validation/accuracy", "test/accuracy")


def keras_row(study: Study, job: Job) -> dict[str, Any]:
    """Figures of the lecture's program in Keras, with the readout, seed, reviews and epochs of ``job``."""
    file = study.runs / f"{study.name}_keras" / f"{job.config['model.readout']}_{job.config['seed']}.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(_train_keras(study, job)).encode())
    row: dict[str, Any] = read_json(file)
    return row


def _train_keras(study: Study, job: Job) -> dict[str, Any]:
    nowhere = {"root": None, "cache_dir": None}
    data = build_data(read_yaml(job.folder / CONFIG)["data"] | nowhere | study.places(job))
    arrays = {}
    for name in ("train", "validation", "test"):
        split = data.split(name)
        arrays[name] = np.asarray(split.tokens, np.int32), np.asarray(split.labels, np.float32)
        if study.short:
            arrays[name] = tuple(array[:64] for array in arrays[name])
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
    shared = {"model.readout": job.config["model.readout"], "seed": job.config["seed"]}
    figures = {name: round(value, 4) if "/" in name else value for name, value in best.items()}
    return shared | {"parameters": model.count_params()} | figures


def draw(rows: Sequence[Mapping[str, Any]], programs: Sequence[str]) -> Any:
    groups = {
        f"{readout} state{'s' * (readout == 'all')}, {program}": [
            row for row in rows if row["model.readout"] == readout and row["program"] == program
        ]
        for readout in READOUTS
        for program in programs
    }
    return draw_dots("The last state or all states", groups, [*COLOURS[: len(programs)]] * len(READOUTS))


def main(arguments: Sequence[str] | None = None) -> None:
    study = Study(__file__, "The last state or all states, beside Keras.", arguments)
    jobs = study.sweep()
    rows: list[dict[str, Any]] = [{"program": "rnn_imdb"} | row for row in rows_of(jobs, ("model.readout",))]
    programs = ["rnn_imdb"]
    if lecture_keras.available():
        rows += [{"program": "Keras on JAX"} | keras_row(study, job) for job in jobs]
        programs.append("Keras on JAX")
    else:
        print("Keras is left out: pip install -e '.[peers]' brings it in")
    columns = [name for name in rows[0] if name != "seconds"]
    rows = [{name: row[name] for name in columns} for row in rows]
    study.write_rows(rows)
    table = []
    for readout in READOUTS:
        for program in programs:
            found = [row for row in rows if row["model.readout"] == readout and row["program"] == program]
            figures = [percent(spread([row[name] for row in found])) for name in FIGURES]
            epochs = " ".join(str(row["best_epoch"]) for row in found)
            table.append((readout, program, f"{found[0]['parameters']:,}", *figures, epochs))
    study.write_table(("readout", "program", "parameters", "validation %", "test %", "best epochs"), table)
    study.save(lambda: draw(rows, programs), "accuracy.png")


if __name__ == "__main__":
    main()
