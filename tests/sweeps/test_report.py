"""The report of a sweep: jobs in every state, figures against numpy's, plots, and what it refuses."""

import csv
import errno
import itertools
import json
import os
import re
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from rnn_imdb.common import files
from rnn_imdb.report import main
from rnn_imdb.sweeps import report
from rnn_imdb.sweeps.leaderboard import leaderboard, standings
from rnn_imdb.sweeps.results import (
    Job,
    rank_configurations,
    read_jobs,
    short_names,
    varied,
    write_csv,
    write_planned,
)

CONFIG = {
    "data": {"source": "embedded", "root": None, "sequence_length": 500, "cache_dir": None},
    "model": {"state_dim": 32, "embedding_dim": 32, "readout": "last", "bias": True},
    "optimizer": {"name": "rmsprop", "learning_rate": 0.001, "alpha": 0.9},
    "trainer": {"max_epochs": 2, "gradient_clip_val": None, "enable_progress_bar": True},
    "callbacks": {"early_stopping": {"patience": 2}},
    "logger": {},
    "seed": 0,
    "test": True,
}
PLOTS = ("accuracy_by_option.png", "accuracy_heatmap.png", "accuracy_vs_parameters.png", "learning_curves.png")


def write_config(folder: Path, **options: Any) -> Path:
    """A run folder that has only its configuration; options are given as GROUP__NAME."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in options.items():
        *groups, name = key.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[name] = value
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def write_run(folder: Path, validation: float, test: float | None = None, epochs: int = 2, **options: Any) -> Path:
    """A finished run with the given accuracies."""
    write_config(folder, test=test is not None, **options)
    rows = [
        {
            "epoch": epoch,
            "train/loss": 0.6 / (epoch + 1),
            "train/accuracy": validation - 0.1 / (epoch + 1),
            "validation/loss": 0.7 / (epoch + 1),
            "validation/accuracy": validation - 0.05 * (epochs - 1 - epoch),
            "seconds": 8.0,
        }
        for epoch in range(epochs)
    ]
    metrics: dict[str, Any] = {name: value for name, value in rows[-1].items() if "/" in name}
    if test is not None:
        metrics |= {"test/loss": 1 - test, "test/accuracy": test, "test/auroc": 0.9, "test/f1": 0.8}
        metrics |= {"test/calibration_error": 0.03}
    size = 10_000 * options.get("model__embedding_dim", 32) + options.get("model__state_dim", 32)
    metrics |= {"parameters": size, "best_epoch": epochs, "epochs": epochs, "seconds": 50.25, "history": rows}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def write_grid(sweep: Path, seeds: int = 3, **axes: list[Any]) -> dict[tuple[Any, ...], np.ndarray]:
    """A finished sweep; returns validation and test accuracy of each configuration, (2, seeds)."""
    generator = np.random.default_rng(0)
    figures = {}
    for values in itertools.product(*axes.values()):
        figures[values] = generator.uniform(0.7, 0.9, size=(2, seeds))
        for seed, (validation, test) in enumerate(figures[values].T):
            name = "_".join(map(str, (*values, seed)))
            write_run(sweep / name, float(validation), float(test), seed=seed, **dict(zip(axes, values, strict=True)))
    return figures


def rows_of(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["folder"]: row for row in csv.DictReader(file)}


def png_size(path: Path) -> tuple[int, int]:
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n")
    # a figure without content would take a fraction of this
    assert len(content) > 8_000
    width, height = struct.unpack(">II", content[16:24])
    return width, height


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A sweep with a job in every state, and things that are no jobs."""
    sweep = tmp_path / "broken"
    write_run(sweep / "a_fine", 0.80, 0.79)
    write_run(sweep / "b_untested", 0.85, model__state_dim=64)
    failed = write_config(sweep / "c_failed", model__state_dim=128)
    (failed / "error.txt").write_text(
        "Traceback (most recent call last):\n  File ...\nValueError: no `room`\x1b[2J\n\n"
    )
    write_config(sweep / "d_running", model__state_dim=256)
    (write_run(sweep / "e_cut", 0.99, 0.99) / "metrics.json").write_text('{"validation/accuracy": 0.')
    (write_run(sweep / "f_config", 0.99, 0.99) / "config.yaml").write_text("model: [")
    (sweep / "not_a_job" / "config.yaml" / "deeper").mkdir(parents=True)
    (sweep / "notes.txt").write_text("by hand")
    return sweep


def test_every_job_is_read_with_its_status(broken: Path) -> None:
    jobs = {job.name: job for job in read_jobs(broken)}
    assert {name: job.status for name, job in jobs.items()} == {
        "a_fine": "finished",
        "b_untested": "finished",
        "c_failed": "failed",
        "d_running": "unfinished",
        "e_cut": "damaged",
        "f_config": "damaged",
    }
    assert list(jobs) == sorted(jobs)
    assert jobs["c_failed"].error == "ValueError: no `room` [2J"
    assert jobs["e_cut"].error.startswith("metrics.json: ")
    assert jobs["f_config"].error.startswith("config.yaml: ")
    assert jobs["a_fine"].config["callbacks.early_stopping.patience"] == 2
    assert jobs["e_cut"].metrics == jobs["d_running"].metrics == {}


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "null", "{}", "\xff", "[" * 1_000_000, '{"validation/accuracy": "high"}', '{"seconds": 1e999}'),
        *("a: &a [*a]", f"a: {'9' * 400}", "2020-01-01: 2", "? [1]\n: 2", "{a: 1, a: 2}", "!!python/name:os.system"),
        *('{"a": {"b": ' * 5_000, f'{{"seconds": {"9" * 5_000}}}', "\0", "!!binary aGk=", "{true: 1}"),
    ],
    ids=lambda content: content[:10],
)
@pytest.mark.parametrize("name", ["metrics.json", "config.yaml"])
def test_damage_is_a_status(tmp_path: Path, name: str, content: str) -> None:
    (write_run(tmp_path / "run", 0.8) / name).write_bytes(content.encode("latin-1"))
    (job,) = read_jobs(tmp_path)
    assert job.status == "damaged"
    assert job.error.startswith(f"{name}: ")
    assert len(job.error) < 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("validation/accuracy", float("nan")),
        ("parameters", 0),
        ("seconds", None),
        ("test/loss", "low"),
        ("history", [1]),
        ("best_epoch", 10**400),
        ("validation/loss", 1e308),
        ("history", [{"epoch": 1e300}]),
        ("history", [{"epoch": 1, "train/loss": "low"}]),
        ("history", [{"epoch": 1, "train/loss": -1e300}]),
    ],
)
def test_a_figure_that_is_none_is_damage(tmp_path: Path, name: str, value: Any) -> None:
    path = write_run(tmp_path / "run", 0.8, 0.8) / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    assert read_jobs(tmp_path)[0].status == "damaged"


@pytest.mark.parametrize("name", ["metrics.json", "config.yaml", "error.txt"])
def test_what_is_no_file_that_may_be_read_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def put(run: str) -> Path:
        path = write_config(tmp_path / run) / name
        path.unlink(missing_ok=True)
        return path

    os.mkfifo(put("pipe"))
    put("circle").symlink_to(name)
    put("device").symlink_to("/dev/zero")
    put("long").write_text("a: 1\n" * 200)
    put("secret").write_text("a: 1")
    if name != "config.yaml":
        put("folder").mkdir()
    put("gone").symlink_to("nowhere")
    (tmp_path / "around").symlink_to("around")
    (tmp_path / os.fsdecode(b"\xff\x1b[2J")).symlink_to(write_config(tmp_path / "other"))
    opened = os.open

    def guarded(path: Any, *options: Any, **further: Any) -> int:
        if Path(path) == tmp_path / "secret" / name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *options, **further)

    monkeypatch.setattr(files.os, "open", guarded)
    monkeypatch.setattr(files, "MOST", 900)
    jobs = read_jobs(tmp_path)
    status = "failed" if name == "error.txt" else "damaged"
    wrong = {job.name: job.error for job in jobs if job.status == status}
    # a circle of links is no run either
    assert (
        wrong.pop("around").startswith("config.yaml: it must be readable, but it is not (Too many")
        if (name != "error.txt")
        else "around" not in wrong
    )
    if name == "config.yaml":
        assert "No such file" in wrong.pop("gone")
    else:
        assert "(Is a directory)" in wrong.pop("folder")
    assert {run: error.partition(": ")[2] for run, error in wrong.items()} == {
        "pipe": "it must be a file, but it is a pipe or a device",
        "device": "it must be a file, but it is a pipe or a device",
        "circle": "it must be readable, but it is not (Too many levels of symbolic links)",
        "secret": "it must be readable, but it is not (Permission denied)",
        "long": "it must have at most 900 bytes, but it has more",
    }
    assert "other" in {job.name for job in jobs}
    assert "\x1b" not in leaderboard(jobs)


def test_aliases_that_multiply_are_damage(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 40)]
    (write_run(tmp_path / "run", 0.8) / "config.yaml").write_text("\n".join(lines))
    assert "must be YAML without aliases" in read_jobs(tmp_path)[0].error


def test_what_a_configuration_says_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "sweep\x1b[2J\n# heading"
    link = "![a](http://b/c)<img src=x>|&lt;\n# heading\x1b[2J\u202e"
    for name, seed in (("=1+1", 0), ("-2", 1)):
        folder = write_run(sweep / name, 0.8, seed=seed, model__readout=["last", "=cmd()", "@x"][seed])
        saved = yaml.safe_load((folder / "config.yaml").read_text())
        saved["model"] |= {f"k|`\n# {link}": [link, f"{link}2"][seed], "size": [-1.5, 2.5][seed]}
        (folder / "config.yaml").write_text(yaml.safe_dump(saved))
    main([str(sweep)])
    printed = capsys.readouterr().out
    text = (sweep / "summary.md").read_text()
    assert all(c.isprintable() or c == "\n" for c in text)
    assert all(c.isprintable() or c == "\n" for c in printed)
    assert not [line for line in text.splitlines() if line.startswith("# h")]
    without_code = re.sub(r"`[^`\n]*`", "", text)
    assert not re.findall(r"(?<!\\)(?:<|\[a\]|&)", without_code)
    tabular = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tabular}) == 1
    rows = rows_of(sweep / "results.csv").values()
    assert {row["folder"] for row in rows} == {"'=1+1", "'-2"}
    assert {row["model.readout"] for row in rows} == {"last", "'=cmd()"}
    assert {row["model.size"] for row in rows} == {"-1.5", "2.5"}


def test_varied_names_what_differs(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 0.8, model__state_dim=16, model__readout="all", data__cache_dir="/node1")
    write_run(tmp_path / "b", 0.8, seed=1, trainer__max_epochs=3, callbacks__early_stopping__patience=5)
    # alpha is rmsprop's, gradient clipping an argument that only one run has
    adam = write_run(tmp_path / "c", 0.8, optimizer__name="adam", trainer__extra=1) / "config.yaml"
    config = yaml.safe_load(adam.read_text())
    del config["optimizer"]["alpha"]
    adam.write_text(yaml.safe_dump(config))
    keys = varied(read_jobs(tmp_path))
    assert keys == [
        *("model.state_dim", "model.readout", "optimizer.name", "trainer.extra", "trainer.max_epochs"),
        *("callbacks.early_stopping.patience", "seed"),
    ]
    assert list(short_names(keys).values()) == [
        *("state_dim", "readout", "optimizer", "extra", "max_epochs", "patience", "seed")
    ]
    assert short_names(["data.root", "model.root"]) == {"data.root": "data.root", "model.root": "model.root"}


def test_configurations_are_averaged_over_seeds_and_ranked_by_validation(tmp_path: Path) -> None:
    # the best test accuracy belongs to the configuration that validates worst
    accuracies = {16: ([0.80, 0.82, 0.84], [0.90, 0.91, 0.92]), 32: ([0.86, 0.85, 0.84], [0.81, 0.82, 0.86])}
    for state_dim, (validation, test) in accuracies.items():
        for seed in range(3):
            folder = tmp_path / f"{state_dim}_{seed}"
            # the cache's folder changes no result
            options = {"model__state_dim": state_dim, "data__cache_dir": f"/node{seed}"}
            write_run(folder, validation[seed], test[seed], seed=seed, **options)
    write_run(tmp_path / "64_0", 0.83, model__state_dim=64)
    jobs = read_jobs(tmp_path)
    configurations = rank_configurations(jobs)
    assert [c.config["model.state_dim"] for c in configurations] == [32, 64, 16]
    for configuration, state_dim in ((configurations[0], 32), (configurations[2], 16)):
        for split, values in zip(("validation", "test"), accuracies[state_dim], strict=True):
            found = configuration.spread(f"{split}/accuracy")
            assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
            assert found.sd == pytest.approx(np.std(values, ddof=1), rel=1e-12)
            assert found.n == 3
    single = configurations[1].spread("validation/accuracy")
    assert (single.sd, single.n) == (None, 1)
    assert configurations[1].spread("test/accuracy").n == 0

    text = report.markdown(jobs, title="sweep", plots={}, command="COMMAND")
    best = next(line for line in text.splitlines() if "Best by validation" in line)
    assert "state_dim 32: 85.00 ± 1.00 % validation accuracy, 83.00 ± 2.65 % test accuracy" in best
    assert "no test figure took part in the choice" in best
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0].strip("|* ") for row in rows] == ["32", "64", "16"]
    assert all(cell.startswith("**") for cell in rows[0].strip("| ").split(" | "))
    assert "| 64 | 320,064 | 1 | 83.00 % | 0.3500 | – | – |" in rows
    assert "| 16 | 320,016 | 3 | 82.00 ± 2.00 % | 0.3500 ± 0.0000 | 91.00 ± 1.00 % | 0.0900 ± 0.0100 |" in rows


def test_a_finished_job_counts_once(tmp_path: Path) -> None:
    """Whatever its folder is called, whether it was begun elsewhere, and with and without a test."""
    for name, test in (("state_dim-32_seed-0", None), ("seed-0", None), ("tested", 0.79)):
        write_run(tmp_path / name, 0.8, test).joinpath("versions.json").write_text('{"reviews": "0123"}')
    write_config(tmp_path / "begun", test=False)
    write_run(tmp_path / "damaged", 0.9).joinpath("metrics.json").write_text("")
    jobs = read_jobs(tmp_path)
    assert [(job.name, job.status) for job in jobs] == [
        ("damaged", "damaged"),
        ("seed-0", "finished"),
        ("tested", "finished"),
    ]
    (setting,) = rank_configurations(jobs)
    assert [job.name for job in setting.jobs] == ["tested"]


def test_csv_has_a_row_a_job(broken: Path) -> None:
    jobs = read_jobs(broken)
    write_csv(jobs, broken / "results.csv")
    rows = rows_of(broken / "results.csv")
    assert {name: row["status"] for name, row in rows.items()} == {job.name: job.status for job in jobs}
    fine = json.loads((broken / "a_fine" / "metrics.json").read_text())
    for name in ("parameters", "best_epoch", "epochs", "seconds", "validation/loss", "test/accuracy", "test/f1"):
        assert float(rows["a_fine"][name]) == fine[name]
    assert rows["b_untested"]["test/accuracy"] == rows["d_running"]["seconds"] == ""
    assert rows["d_running"]["model.state_dim"] == "256"
    assert rows["a_fine"]["trainer.gradient_clip_val"] == "null"
    assert rows["a_fine"]["model.bias"] == "true"
    assert rows["f_config"]["seed"] == ""
    header = (broken / "results.csv").read_text().splitlines()[0]
    assert header == (
        "folder,status,model.state_dim,model.embedding_dim,model.readout,model.bias,optimizer.alpha,"
        "optimizer.learning_rate,optimizer.name,trainer.enable_progress_bar,trainer.gradient_clip_val,"
        "trainer.max_epochs,data.cache_dir,data.root,data.sequence_length,data.source,seed,parameters,best_epoch,epochs,"
        "seconds,validation/loss,validation/accuracy,test/loss,test/accuracy,test/auroc,test/f1,test/calibration_error"
    )


def test_csv_is_never_half_written(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    jobs = [Job(tmp_path / f"{i}", {"seed": i}, status="unfinished") for i in range(100)]
    write_csv(jobs, path)
    sizes = {path.stat().st_size}
    write_csv(jobs[:30], path)
    sizes.add(path.stat().st_size)
    writers = [
        threading.Thread(target=lambda some=some: [write_csv(some, path) for _ in range(10)])
        for some in (jobs, jobs[:30], jobs)
    ]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        seen.add(len(path.read_bytes()))
    assert seen <= sizes
    assert os.listdir(tmp_path) == ["results.csv"]  # noqa: PTH208 also hidden files


def test_leaderboard_is_sorted_and_ends_with_what_did_not_finish(broken: Path) -> None:
    lines = leaderboard(read_jobs(broken)).splitlines()
    assert lines[0].split("  ")[0] == "state_dim"
    assert [line.split() for line in lines[1:8]] == [
        ["64", "85.00", "2", "50", "s"],
        ["32", "80.00", "79.00", "2", "50", "s"],
        ["256", "unfinished"],
        ["128", "failed"],
        ["32", "damaged"],
        ["f_config", "damaged"],
        [],
    ]
    assert lines[8:] == [
        "Best by validation: state_dim 64: 85.00 % validation accuracy, not tested (1",
        "seed)",
    ]


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_leaderboard_shows_all_that_was_swept(columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    names = [f"trainer__a_rather_long_option_{i}" for i in range(9)]
    path = "/there" * 20
    write_run(tmp_path / "a", 0.8, 0.8, seed=7, **dict.fromkeys(names, 0.123456), optimizer__name="adam")
    write_run(tmp_path / "b", 0.9, 0.8, model__state_dim=4096, data__sequence=path, **dict.fromkeys(names, 1e-7))
    (write_run(tmp_path / ("c" * 150), 0.9) / "config.yaml").write_text("")
    text = leaderboard(read_jobs(tmp_path))
    assert max(map(len, text.splitlines())) <= max(columns, 60)
    found = re.sub(r"\s", "", text)
    for value in ("4096", "adam", "rmsprop", path, *(f"a_rather_long_option_{i}0.123456" for i in range(9))):
        assert value in found
    assert "seed 7" in re.sub(r"\s+", " ", text)
    usual = tmp_path / "usual"
    write_grid(usual, 1, model__state_dim=[16, 128], optimizer__learning_rate=[0.001, 0.0123456789012])
    lines = leaderboard(read_jobs(usual)).splitlines()
    top = next(i for i, line in enumerate(lines) if re.match(r"(16|128) ", line))
    header = " ".join(" ".join(lines[:top]).split())
    # forty columns are too few: the headers break, and the last figures go
    expected = "state_dim learning_rate val acc % test acc % best ep. time"
    assert header == ("state_ learning_ val test dim rate acc % acc %" if columns == 40 else expected)
    # the digits of a number drawn at random are the CSV's
    assert "0.01235 " in text.replace(text, "\n".join(lines))


def test_options_that_follow_from_what_was_swept_are_left_out(tmp_path: Path) -> None:
    for name, more in (
        ("rmsprop", {"eps": 1e-7}),
        ("adam", {"eps": 1e-8, "betas": [0.9, 0.999]}),
        ("sgd", {"momentum": 0.0}),
    ):
        for decay in (0.0, 0.1):
            run = write_run(tmp_path / f"{name}_{decay}", 0.8, optimizer__name=name, optimizer__weight_decay=decay)
            config = yaml.safe_load((run / "config.yaml").read_text())
            config["optimizer"] |= more
            (run / "config.yaml").write_text(yaml.safe_dump(config | {"sweep": {"swept": ["optimizer"]}}))
    assert varied(read_jobs(tmp_path)) == ["optimizer.name", "optimizer.weight_decay"]
    assert leaderboard(read_jobs(tmp_path)).splitlines()[1].split()[0] in ("rmsprop", "adam", "sgd")
    # jobs that have not begun, or not read their reviews, tell nothing else
    for name in ("adam_0.0", "rmsprop_0.1"):
        (tmp_path / name / "versions.json").write_text('{"reviews": "0123456789abcdef"}')
    (tmp_path / "adam_0.1" / "metrics.json").unlink()
    write_planned(tmp_path, {"0123abcd": {"optimizer": "adam", "seed": 0}})
    (tmp_path / "sgd_0.0" / "config.yaml").unlink()
    (tmp_path / "sgd_0.1" / "config.yaml").unlink()
    (tmp_path / "rmsprop_0.0" / "config.yaml").unlink()
    assert varied(read_jobs(tmp_path, planned=True)) == ["optimizer.name", "optimizer.weight_decay"]
    # an axis of which one value is there yet
    one = [job for job in read_jobs(tmp_path) if job.config["optimizer.name"] == "adam"]
    assert varied(one) == ["optimizer.weight_decay"]
    # an experiment sets any option, and is none itself
    for path in tmp_path.glob("*/config.yaml"):
        path.write_text(path.read_text().replace("- optimizer", "- optimizer\n  - experiment"))
    assert "optimizer.eps" in varied(read_jobs(tmp_path))


def test_a_sweep_over_seeds_ends_with_means_and_the_best(tmp_path: Path) -> None:
    figures = write_grid(tmp_path, 3, model__readout=["last", "all"])
    write_config(tmp_path / "failed", model__readout="all", seed=3)
    jobs = read_jobs(tmp_path)
    rows, means, best = leaderboard(jobs).split("\n\n")
    assert len(rows.splitlines()) == 8
    ranked = sorted(figures, key=lambda values: -figures[values][0].mean())
    texts = [" ± ".join(f"{100 * x:.2f}" for x in (v.mean(), v.std(ddof=1))) for v in (figures[r][0] for r in ranked)]
    lines = means.splitlines()
    assert lines[0] == "mean ± sd over seeds:"
    assert [line.split("  ")[0] for line in lines[2:]] == [name for (name,) in ranked]
    assert all(text in line for text, line in zip(texts, lines[2:], strict=True))
    assert " ".join(best.split()).startswith(f"Best by validation: readout {ranked[0][0]}: {texts[0]} % validation")
    # the report has no row a job, but what did not finish
    table, again = standings(jobs).split("\n\n")
    assert table.splitlines()[:4] == lines
    assert table.splitlines()[4].split() == ["all", "1", "unfinished"]
    assert again == best


def test_two_sweeps_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_grid(tmp_path / "a", 3, model__state_dim=[16, 32])
    for seed, (validation, _) in enumerate(a[32,].T[:2]):
        write_run(tmp_path / "b" / f"{seed}", validation + 0.01, seed=seed, optimizer__name="adam")
    main([str(tmp_path / "a"), str(tmp_path / "b")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"A  {tmp_path / 'a'}", f"B  {tmp_path / 'b'}", ""]
    (row,) = (line for line in lines if line.startswith("32 "))
    assert row.endswith("  +1.00 ± 0.00      2")
    (row,) = (line for line in lines if line.startswith("16 "))
    assert row.split()[-1] == "0"
    assert lines[-2:] == ["A has optimizer rmsprop", "B has optimizer adam"]
    assert not (tmp_path / "a" / "summary.md").exists()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "a"), str(tmp_path / "b"), "--watch"])
    assert "leave out --watch and --output" in capsys.readouterr().err


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """A sweep of four jobs, of which one is finished and one interrupted."""
    write_run(tmp_path / "first", 0.8, optimizer__name="adam")
    write_config(tmp_path / "second", seed=1, test=False)
    (tmp_path / "first" / "versions.json").write_text('{"reviews": "0123456789abcdef"}')
    # one that just began has its folder's name, and no record of its reviews
    (tmp_path / "second").rename(tmp_path / "second-89abcdef")
    digests = {job.config["seed"]: job.digest for job in read_jobs(tmp_path)}
    assert digests[1] == "89abcdef"
    keys = (digests[0], digests[1], "0123abcd", "0123abce")
    options = zip(keys, ("adam", "rmsprop", "sgd", "sgd"), range(4), strict=True)
    write_planned(tmp_path, {key: {"optimizer": name, "seed": seed} for key, name, seed in options})
    return tmp_path


def test_jobs_still_planned_are_named(planned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [job.status for job in read_jobs(planned)] == ["finished", "unfinished"]
    main([str(planned)])
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()[1:5]] == [
        ["adam", "0", "80.00", "2", "50", "s"],
        ["rmsprop", "1", "unfinished"],
        ["sgd", "2", "planned"],
        ["sgd", "3", "planned"],
    ]
    assert "\njobs: 1 finished, 1 unfinished, 2 planned\n" in out
    assert "- `optimizer.name`: adam, rmsprop, sgd\n" in (planned / "summary.md").read_text()
    assert rows_of(planned / "results.csv")["0123abcd"]["optimizer.name"] == "sgd"


@pytest.mark.parametrize("content", ["", "[]", '{"../../x": {}}', '{"0123abcd": ["seed=1"]}', "[" * 100_000])
def test_a_plan_that_is_none_plans_nothing(content: str, planned: Path) -> None:
    (planned / "planned.json").write_text(content)
    assert [job.status for job in read_jobs(planned, planned=True)] == ["finished", "unfinished"]


def test_a_sweep_of_which_no_job_has_begun_says_so(
    planned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in planned.glob("*/config.yaml"):
        path.unlink()
    runs = planned.parent / "experiments" / "runs"
    os.utime(write_run(runs / "earlier" / "job", 0.8) / "config.yaml", (0, 0))
    planned.rename(runs / "mine")
    monkeypatch.chdir(planned.parent)
    for name in ("mine", "latest"):
        main([name])
        assert capsys.readouterr().out == "no job of experiments/runs/mine has begun yet: 4 planned\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_watch_ends_when_all_are_finished(
    terminal: bool, planned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(seconds: float) -> None:
        """What happens between two looks."""
        assert seconds >= 2
        assert len(looks) < 3
        (planned / "planned.json").unlink(missing_ok=True)
        looks.append(seconds)
        if len(looks) == 3:
            path = write_run(planned / "second_again", 0.9, seed=1) / "versions.json"
            path.write_text('{"reviews": "0123456789abcdef"}')

    looks: list[float] = []
    monkeypatch.setattr("time.sleep", change)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    main([str(planned), "--watch"])
    out = capsys.readouterr().out
    assert len(looks) == 3
    # drawn where something changed: four looks, three states
    assert out.count("\x1b[H") == (3 if terminal else 0)
    assert ("\x1b" in out) == terminal
    states = ("1 finished, 1 unfinished, 2 planned", "1 finished, 1 unfinished", "2 finished")
    shown = re.findall(r"^(?:[\d:]{8})? (\d finished.*)$", out, re.MULTILINE)
    assert shown == list(states)
    assert (planned / "summary.md").is_file()


def test_a_sweep_as_a_user_reports_it(tmp_path: Path) -> None:
    sweep = tmp_path / "capacity"
    axes = {"model__state_dim": [16, 32, 64], "model__embedding_dim": [16, 32], "model__readout": ["last", "all"]}
    figures = write_grid(sweep, seeds=2, **axes)
    command = [sys.executable, "-W", "error", "-m", "rnn_imdb.report", str(sweep)]
    # a matplotlibrc or backend of the user's own changes nothing
    environment = os.environ | {"MPLBACKEND": "TkAgg"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("results.csv", "summary.md", *PLOTS):
        assert f"wrote {sweep / name}" in done.stdout
    assert done.stdout.startswith("mean ± sd over seeds:\nstate_dim  embedding_dim  readout")

    best = max(figures, key=lambda values: figures[values][0].mean())
    validation, test = (f"{100 * x.mean():.2f} ± {100 * x.std(ddof=1):.2f} %" for x in figures[best])
    label = f"state_dim {best[0]}, embedding_dim {best[1]}, readout {best[2]}"
    text = (sweep / "summary.md").read_text()
    assert f"**Best by validation: {label}: {validation} validation accuracy, {test} test accuracy (2 seeds).**" in text
    for values, (validations, tests) in figures.items():
        start = " | ".join(map(str, values))
        row = next(
            line.replace("*", "") for line in text.splitlines() if line.replace("*", "").startswith(f"| {start} ")
        )
        assert f" {100 * validations.mean():.2f} ± {100 * validations.std(ddof=1):.2f} % " in row
        assert f" {100 * tests.mean():.2f} ± {100 * tests.std(ddof=1):.2f} % " in row
    assert "- `model.state_dim`: 16, 32, 64\n" in text
    assert "24 jobs: 24 finished." in text
    assert f"python -m rnn_imdb.report {sweep}\n" in text
    for name in PLOTS:
        assert f"({name})" in text
        assert png_size(sweep / name) >= (600, 300)
    assert len(rows_of(sweep / "results.csv")) == 24
    assert not [path for path in sweep.iterdir() if path.name.startswith(".")]


def test_heatmap_values(tmp_path: Path) -> None:
    from rnn_imdb.sweeps.plots import heatmap_values

    axes = {"model__state_dim": [16, 128], "model__embedding_dim": [16, 32], "model__readout": ["all", "last"]}
    figures = write_grid(tmp_path, **axes, optimizer__learning_rate=[0.001, 0.01])
    for seed in range(3):
        for rate in (0.001, 0.01):
            (tmp_path / f"128_16_all_{rate}_{seed}" / "metrics.json").unlink()
    states, embeddings, grids = heatmap_values(rank_configurations(read_jobs(tmp_path)))
    assert (states, embeddings, list(grids)) == ([16, 128], [16, 32], ["last", "all"])
    for readout, grid in grids.items():
        for (row, column), value in np.ndenumerate(grid):
            cell = (states[row], embeddings[column], readout)
            if cell == (128, 16, "all"):
                assert np.isnan(value)
            else:
                best = max(figures[(*cell, rate)][0].mean() for rate in (0.001, 0.01))
                assert value == pytest.approx(100 * best)


def test_curves_average_the_seeds_that_reached_the_epoch(tmp_path: Path) -> None:
    from rnn_imdb.sweeps.plots import curve

    write_run(tmp_path / "a", 0.80, epochs=1)
    write_run(tmp_path / "b", 0.86, epochs=2, seed=1)
    (configuration,) = rank_configurations(read_jobs(tmp_path))
    (first, start), (second, end) = curve(configuration, "validation/accuracy").items()
    assert (first, second) == (1, 2)
    assert (start.mean, start.sd) == pytest.approx((np.mean([0.80, 0.81]), np.std([0.80, 0.81], ddof=1)))
    assert (end.mean, end.sd, end.n) == (pytest.approx(0.86), None, 1)


def test_a_title_says_where_cells_are_not_plain_means(tmp_path: Path) -> None:
    write_grid(tmp_path, 2, model__state_dim=[16, 32], optimizer__learning_rate=[0.1, 0.2, 0.3, 0.4, 0.5])
    main([str(tmp_path)])
    text = (tmp_path / "summary.md").read_text()
    assert "the best setting of each cell, mean over seeds; learning_rate varied too" in text
    assert "the best 6 of 10 by validation, in grey the next 4" in text


def test_a_sweep_with_broken_jobs(broken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "deep" / "report folder"
    before = sorted(broken.rglob("*"))
    main([str(broken), "--output", str(output)])
    assert sorted(broken.rglob("*")) == before
    assert sorted(path.name for path in output.iterdir()) == sorted(["results.csv", "summary.md", *PLOTS])
    text = (output / "summary.md").read_text()
    assert "6 jobs: 2 finished, 1 unfinished, 1 failed, 2 damaged." in text
    assert "- `c_failed` failed: `ValueError: no 'room' [2J`" in text
    assert "- `d_running` unfinished\n" in text
    assert "- `e_cut` damaged: `metrics.json: " in text
    assert "**Best by validation: state_dim 64: 85.00 % validation accuracy, not tested (1 seed).**" in text
    assert f"--output '{output}'" in text
    assert "f_config  damaged" in capsys.readouterr().out


def test_one_run(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", 0.8512, 0.8449, epochs=1)
    main([str(run)])
    text = (run / "summary.md").read_text()
    assert "One run; nothing was swept." in text
    assert "state_dim 32, embedding_dim 32, readout last: 85.12 % validation accuracy, 84.49 % test accuracy" in text
    assert "±" not in text
    # a single point is no plot
    assert [path.name for path in run.glob("*.png")] == ["learning_curves.png"]
    assert png_size(run / "learning_curves.png") > (600, 300)


def test_jobs_without_test_figures_and_without_history(tmp_path: Path) -> None:
    for seed in range(2):
        path = write_run(tmp_path / f"{seed}", 0.8, seed=seed, data__root="a $x$ [b](c) | d") / "metrics.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "history"}))
    main([str(tmp_path)])
    text = (tmp_path / "summary.md").read_text()
    assert "80.00 ± 0.00 % validation accuracy, not tested (2 seeds)" in text
    assert "test accuracy" not in text
    assert not list(tmp_path.glob("*.png"))


def test_what_nobody_could_see_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnn_imdb.sweeps import plots

    write_grid(tmp_path, 1, model__state_dim=[8, 16, 32], model__readout=["last", "mean"])
    monkeypatch.setattr(plots, "MOST_VALUES", 2)
    monkeypatch.setattr(plots, "MOST_PANELS", 1)
    main([str(tmp_path)])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == sorted({*PLOTS} - {"accuracy_heatmap.png"})
    settings = rank_configurations(read_jobs(tmp_path))
    figure = plots.draw_accuracies(settings, [("validation", "model.readout"), ("validation", "model.state_dim")])
    (axis,) = (axis for axis in figure.axes if axis.get_visible())
    assert axis.get_xlabel() == "readout"


@pytest.mark.parametrize(
    ("values", "scale", "places", "ticks"),
    [
        ([1e-4, 0.1, 0.01], "log", [1e-4, 0.1, 0.01], ["0.0001", "0.01", "0.1"]),
        ([16, 17, 64], "linear", [16, 17, 64], ["16", "64"]),
        ([322113, 1290000], "linear", [322113, 1290000], ["322k", "1.29M"]),
        ([0, 1000], "linear", [0, 1000], ["0", "1000"]),
        # the best comes first
        (["mean", "last", "mean"], "linear", [0, 1, 0], ["mean", "last"]),
        ([None, 5, True], "linear", [0, 1, 2], ["null", "5", "true"]),
        ([f"v{i}" for i in range(13)], "linear", [*range(12), float("nan")], [f"v{i}" for i in range(12)]),
    ],
)
def test_an_axis_fits_its_values(values: list[Any], scale: str, places: list[float], ticks: list[str]) -> None:
    from matplotlib.figure import Figure

    from rnn_imdb.sweeps import plots

    axis = Figure().subplots()
    found = plots._places(axis, "name", values)
    np.testing.assert_array_equal(found, places)
    axis.plot(found, found)
    assert axis.get_xscale() == scale
    assert [label.get_text() for label in axis.get_xticklabels()] == ticks


def test_a_large_random_sweep_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    text = yaml.safe_dump(CONFIG)
    for index in range(150):
        rate, size = 10 ** generator.uniform(-4, -1), int(generator.integers(4, 400))
        folder = write_run(tmp_path / f"{index}", float(generator.uniform(0.7, 0.9)), model__state_dim=size)
        (folder / "config.yaml").write_text(
            text.replace("learning_rate: 0.001", f"learning_rate: {rate}").replace(
                "state_dim: 32", f"state_dim: {size}"
            )
        )
    monkeypatch.setenv("COLUMNS", "80")
    main([str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.endswith("50 s")]) == 20
    assert "and 130 more, see results.csv" in lines
    summary = (tmp_path / "summary.md").read_text()
    assert summary.count("\n| ") == 102
    assert max(map(len, summary.splitlines())) < 400
    assert len(rows_of(tmp_path / "results.csv")) == 150
    assert not (tmp_path / "accuracy_heatmap.png").exists()
    assert max(max(png_size(path)) for path in tmp_path.glob("*.png")) < 4000


def test_nothing_finished(tmp_path: Path) -> None:
    write_config(tmp_path / "a")
    for _ in range(2):
        # the second report reads the jobs, not the first report
        main([str(tmp_path)])
        assert "1 job: 1 unfinished." in (tmp_path / "summary.md").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "results.csv", "summary.md"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["missing"], 2, "error: a run must be a path, latest, .* but missing does not exist"),
        (["file"], 2, r"but file cannot be read \(Not a directory\): name a folder"),
        (["empty"], 2, "but empty has none: name a folder"),
        (["run", "--output", "file"], 2, r"must go into a folder, but file is none \(File exists\): name another"),
        (["run", "--output", "file/below"], 2, r"but file/below is none \(Not a directory\): name another"),
        (["run", "--output", "taken"], 1, r"taken/results.csv must be writable, but it is not \(Is a directory\)"),
        ([], 2, "required: SWEEP"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    code: int,
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", 0.8)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "taken" / "results.csv").mkdir(parents=True)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == code
    error = capsys.readouterr().err
    assert re.search(text, error), error
    assert "Traceback" not in error
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(tmp_path.rglob("*.tmp"))


def test_help_and_light_imports() -> None:
    code = (
        "import sys, rnn_imdb.sweeps.results\n"
        "print(sorted({'torch', 'matplotlib', 'lightning', 'hydra', 'numpy'} & set(sys.modules)))\n"
        "import rnn_imdb.report\n"
        "print(sorted({'torch', 'matplotlib', 'lightning'} & set(sys.modules)))\n"
        "rnn_imdb.report.main(['--help'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("[]\n[]\nusage: python -m rnn_imdb.report [-h] [--output FOLDER] [--watch]")
    assert done.stdout.count("  python -m rnn_imdb.report ") == 4
    assert max(map(len, done.stdout.splitlines())) <= 100
