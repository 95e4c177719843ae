"""Sweeps: their command line, folders, what the same command does again, failures and launchers."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import compose, small_reviews, write_archive
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import locked
from rnn_imdb.config import names as choices
from rnn_imdb.config.compose import conf_folder, conf_root, register, restore
from rnn_imdb.config.identity import digest
from rnn_imdb.sweeps import job
from rnn_imdb.sweeps.command_line import prepare
from rnn_imdb.sweeps.engine import Start
from rnn_imdb.sweeps.results import read_jobs
from rnn_imdb.training import run

pytestmark = pytest.mark.usefixtures("forked")

Command = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = ("trainer.max_epochs=1", "model.embedding_dim=4")
# where a sweep over state_dim goes, whatever the seeds
RUNS = Path("experiments") / "runs" / "state_dim"


def jobs_of(folder: Path) -> dict[str, Path]:
    """Job folders by name without the hash."""
    return {path.parent.name.rpartition("-")[0]: path.parent for path in folder.glob("*/config.yaml")}


def test_sweep_file_gives_axes_that_the_command_line_can_replace() -> None:
    axes = yaml.safe_load((conf_folder() / "sweep" / "capacity.yaml").read_text())["axes"]
    prepared = prepare(["sweep=capacity", "model.readout=last", "seed=3,4"])
    assert "--multirun" in prepared
    assert f"model.state_dim={axes['model.state_dim']}" in prepared
    assert [argument for argument in prepared if argument.startswith(("seed=", "model.readout="))] == [
        "model.readout=last",
        "seed=3,4",
    ]


@pytest.mark.parametrize("spelling", ["./mine.yaml", "a//../mine.yaml", "~/mine.yaml", "'mine.yaml'", "{}/mine.yaml"])
def test_sweep_file_may_lie_anywhere_and_be_spelled_in_any_way(
    spelling: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a").mkdir()
    (tmp_path / "mine.yaml").write_text("name: mine\naxes:\n  data: aclimdb\n  seed: 0,1\n")
    assert prepare(["sweep=capacity", f"sweep={spelling.format(tmp_path)}", "test=false"]) == [
        *("--multirun", "sweep.name=mine", "test=false", "data=aclimdb", "seed=0,1")
    ]


def test_list_in_a_sweep_file_has_a_value_an_entry(tmp_path: Path) -> None:
    file = tmp_path / "mine.yml"
    axes = {"optimizer.betas": [[0.9, 0.99], [0.8, 0.9]], "model.readout": ["last", "all"], "data.last_words": None}
    axes |= {"seed": [0, 1, 2], "test": False}
    file.write_text(yaml.safe_dump({"name": "mine", "axes": axes}))
    prepared = prepare([f"sweep={file}"])
    assert {"optimizer.betas=[0.9, 0.99],[0.8, 0.9]", "data.last_words=null", "test=false"} < set(prepared)


@pytest.mark.parametrize("content", [None, "axes: {}\n", "name: mine\n", "a list", "{", "name: a\naxes: 3\n"])
def test_sweep_file_of_no_use_is_refused(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(UserError, match=r"mine\.yaml must be a YAML file with a name and axes"):
        prepare([f"sweep={tmp_path / 'mine.yaml'}"])


def test_options_may_stand_anywhere() -> None:
    assert prepare(["seed=1", "--cfg", "job", "test=false"]) == ["--cfg", "job", "seed=1", "test=false"]


@pytest.mark.parametrize("arguments", [["seed=1"], [], ["--help"], ["sweep=default", "seed=1"], ["sweep=nosuch"]])
def test_other_command_lines_stay_as_they_are(arguments: list[str]) -> None:
    assert prepare(list(arguments)) == arguments


def test_sweep_goes_over_encoders_and_words(small_overrides: list[str], command: Command, tmp_path: Path) -> None:
    axes = ["-m", "model.encoder=rnn,dense,conv", "data.last_words=null,5"]
    done = command("train", *small_overrides, *QUICK, *axes)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = jobs_of(tmp_path / "experiments" / "runs" / "encoder-last_words")
    words = ("None", "5")
    assert set(jobs) == {f"encoder-{name}_last_words-{kept}" for name in choices.ENCODERS for kept in words}
    assert all((job / "metrics.json").is_file() for job in jobs.values())
    for name in choices.ENCODERS:
        assert f"{name} " in done.stdout
    report = command("report", "latest")
    assert report.returncode == 0, report.stderr


def started(*arguments: str) -> DictConfig:
    """What Hydra has at the start of a sweep with this command line."""
    register()
    with initialize_config_dir(str(conf_root("train")), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        config = hydra.compose_config("train", [*arguments], RunMode.MULTIRUN)
        Start().on_multirun_start(config)
    return config


@pytest.fixture(scope="module")
def swept(
    forking_python: str, small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """A sweep of two jobs, and the command line that made it."""
    folder = tmp_path_factory.mktemp("swept")
    arguments = [*small_overrides, *QUICK, "-m", "model.state_dim=4,8", "model.readout=last"]
    subprocess.run([forking_python, "-m", "rnn_imdb.train", *arguments], cwd=folder, check=True, capture_output=True)
    return folder, arguments


def test_job_folders_are_named_by_what_is_swept(swept: tuple[Path, list[str]]) -> None:
    jobs = jobs_of(swept[0] / RUNS)
    assert set(jobs) == {"state_dim-4", "state_dim-8"}
    assert all((job / "metrics.json").is_file() and (job / "output.txt").is_file() for job in jobs.values())


def test_sweep_leaves_a_plan_by_the_hashes_of_its_jobs(swept: tuple[Path, list[str]]) -> None:
    runs = swept[0] / RUNS
    plan = json.loads((runs / "planned.json").read_text())
    found = read_jobs(runs)
    assert plan == {job.digest: {"model.state_dim": job.config["model.state_dim"]} for job in found}
    assert len(plan) == 2


def test_same_command_again_runs_only_what_is_new(
    swept: tuple[Path, list[str]], command: Command, tmp_path: Path
) -> None:
    folder, arguments = swept
    runs = folder / RUNS
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/metrics.json")}
    # wherever the reviews lie
    (argument,) = (argument for argument in arguments if argument.startswith("data.root="))
    moved = shutil.copy(argument.removeprefix("data.root="), tmp_path / "moved.tar.gz")
    more = [argument.replace("4,8", "4,8,6") for argument in arguments]
    done = command("train", *more, f"data.root={moved}", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished before") == 2
    assert "job 3/3  state_dim-6-" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with (runs / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["model.state_dim"] for row in rows) == ["4", "6", "8"]
    assert all(row["status"] == "finished" and float(row["test/accuracy"]) > 0 for row in rows)
    # sorted by validation accuracy
    table = [line.split() for line in done.stdout.splitlines() if line[:2] in ("4 ", "6 ", "8 ")]
    accuracies = [float(line[1]) for line in table]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(accuracies) == 3


def test_damaged_or_other_job_is_done_again(
    swept: tuple[Path, list[str]], command: Command, small_archive: Path, tmp_path: Path
) -> None:
    runs = tmp_path / RUNS
    shutil.copytree(swept[0] / RUNS, runs)
    archive = shutil.copy(small_archive, tmp_path / "reviews.tar.gz")
    arguments = [*swept[1], f"data.root={archive}"]
    before = jobs_of(runs)
    first, second = before["state_dim-4"], before["state_dim-8"]
    figures = (first / "metrics.json").read_bytes()
    (first / "metrics.json").write_text('{"validation/accuracy": "high"}')
    (second / "metrics.json").write_text("{}")
    (second / "checkpoints" / "last.ckpt").write_bytes(b"PK")
    done = command("train", *arguments)
    assert done.returncode == 1
    assert (first / "metrics.json").read_bytes() == figures
    assert f"{second.name}: failed: " in done.stdout
    assert f"1 of {len(before)} jobs failed" in done.stdout
    assert "must be a checkpoint of plain values and tensors" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    # other reviews at the same place
    write_archive(archive, {name: text.replace(b"film", b"movie") for name, text in small_reviews().items()})
    done = command("train", *arguments)
    assert "finished before" not in done.stdout
    with (runs / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(before) + 2
    assert len({row["data.reviews"] for row in rows}) == 2


@pytest.mark.parametrize(
    ("axes", "name"),
    [
        ("seed=0,1 model.readout=last,all +model.state_dim=4,8", "state_dim-readout"),
        ("optimizer=adam,sgd experiment=best,null", "optimizer-experiment"),
        ("seed=0,1", "seed"),
        ("seed=0 sweep.name=null", "sweep"),
        ("seed=0,1 sweep.name=mine", "mine"),
    ],
)
def test_sweep_without_a_name_is_called_what_it_goes_over(axes: str, name: str) -> None:
    config = started(*axes.split())
    assert config.hydra.sweep.dir == f"experiments/runs/{name}"
    assert f"sweep.name={name}" in config.hydra.overrides.hydra


def test_glob_is_given_to_a_sweeper_as_the_files_of_its_group() -> None:
    assert started("optimizer=glob(*,exclude=[o*,s*])").hydra.overrides.task == ["optimizer=choice(adam,adamw,rmsprop)"]
    with pytest.raises(SystemExit):
        started("model.readout=glob(*)")


@pytest.mark.parametrize(("keep", "kept"), [("best", {"best.ckpt"}), ("last", {"last.ckpt"}), ("none", set())])
def test_finished_job_keeps_the_checkpoints_that_it_shall(
    keep: str,
    kept: set[str],
    small_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = compose("train", *small_overrides, *QUICK, f"sweep.keep={keep}", "test=false")
    other = compose("train", *small_overrides, *QUICK, "test=false")
    assert digest(config, None) == digest(other, None)
    hydra = OmegaConf.create({"job": {"num": 0}, "launcher": {}})
    monkeypatch.setattr(job.HydraConfig, "get", lambda: hydra)
    assert job.run_job(config, tmp_path) == read_jobs(tmp_path)[0].metrics["validation/accuracy"]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == kept
    assert "left" not in capsys.readouterr().out


def test_failing_job_stops_neither_the_others_nor_its_retry(small_overrides: list[str], command: Command) -> None:
    arguments = [*small_overrides, *QUICK, "-m", "data.vocabulary_size=2,50", "sweep.name=fails"]
    done = command("train", *arguments)
    assert done.returncode == 1
    assert "job 2/2  vocabulary_size-50" in done.stdout
    assert "1 of 2 jobs failed" in done.stdout
    assert "must be a whole number from 3" in done.stdout
    arguments[-2] += ",60"
    again = command("train", *arguments, "sweep.fail_fast=true", "sweep.workers=1")
    assert again.returncode == 1
    assert "sweep.fail_fast=true: see" in again.stderr
    assert again.stdout.count("finished before") == 1
    assert "job 3/3" not in again.stdout


@pytest.fixture
def unfinished_sweep(tmp_path: Path) -> Path:
    """A sweep's folder with one job that was begun."""
    folder = tmp_path / "a sweep"
    (folder / "seed-0").mkdir(parents=True)
    (folder / "seed-0" / "config.yaml").write_text(OmegaConf.to_yaml(compose("train")))
    return folder


def test_killed_worker_ends_a_sweep_by_its_table(
    unfinished_sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job.SweepCallback, "folder", unfinished_sweep)
    with pytest.raises(SystemExit) as ended, job.outliving_workers():
        raise BrokenProcessPool("a worker was terminated")
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.startswith("error: a worker of the sweep was killed")
    assert "the same command goes on" in err
    assert "unfinished" in out
    assert f"report       python -m rnn_imdb.report '{unfinished_sweep}'" in out
    assert (unfinished_sweep / "results.csv").is_file()
    with pytest.raises(RuntimeError, match="a mistake"), job.outliving_workers():
        raise RuntimeError("a mistake of the program")


def test_sweep_names_a_job_that_another_process_runs(
    unfinished_sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(unfinished_sweep)}}})
    with locked(unfinished_sweep / "seed-0"), pytest.raises(SystemExit) as ended:
        job.SweepCallback().on_multirun_end(config)
    out = capsys.readouterr().out
    assert ended.value.code == 1
    assert out.endswith("1 of 1 jobs run in another process; give the same command again later:\n  seed-0\n")
    assert out.splitlines()[2].split() == ["seed-0", "running"]
    assert ",running," in (unfinished_sweep / "results.csv").read_text()
    with pytest.raises(SystemExit) as ended:
        job.SweepCallback().on_multirun_end(config)
    assert ended.value.code == 1
    assert capsys.readouterr().out.endswith("1 of 1 jobs are unfinished; the same command goes on:\n  seed-0\n")


def test_sweep_whose_results_cannot_be_written_fails(
    unfinished_sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (unfinished_sweep / "results.csv").mkdir()
    with pytest.raises(SystemExit) as ended:
        job.SweepCallback().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(unfinished_sweep)}}}))
    assert ended.value.code == 1
    assert "results.csv must be writable, but it is not (Is a directory)" in capsys.readouterr().err


def test_interrupted_sweep_goes_on(small_overrides: list[str], tmp_path: Path, command: Command) -> None:
    slow = ["callbacks.early_stopping.patience=1000", "model.embedding_dim=4", "trainer.max_epochs=60"]
    arguments = [*small_overrides, *slow, "sweep.workers=1", "-m", "seed=0,1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "rnn_imdb.train", *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    runs = tmp_path / "experiments" / "runs" / "seed"
    deadline = time.monotonic() + 120
    while not list(runs.glob("seed-1-*/checkpoints/best.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "job 1/2" in out
    done = command("train", *arguments)
    assert done.returncode == 0, done.stderr
    assert "job 1/2  seed-0" in done.stdout
    assert done.stdout.count("finished before") == 1
    # the second run printed its table twice: once to the interruption, once from there on
    assert (jobs_of(runs)["seed-1"] / "output.txt").read_text().count("epoch      loss") == 2


def test_finished_job_is_found_whatever_its_sweep_goes_over(
    swept: tuple[Path, list[str]], command: Command, tmp_path: Path
) -> None:
    runs = tmp_path / RUNS
    shutil.copytree(swept[0] / RUNS, runs)
    before = {path.parent.name for path in runs.glob("*/config.yaml")}
    constant = [text for text in swept[1] if text not in ("-m", "model.state_dim=4,8")]
    for axes in (["seed=0,1", "model.state_dim=4,8"], ["model.state_dim=8,4", "seed=1,0"]):
        done = command("train", *constant, "-m", *axes)
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished before") == 4
    after = {path.parent.name for path in runs.glob("*/config.yaml")}
    assert before < after
    assert len(after) == len(before) + 2
    # an earlier version left several folders of one job
    known = next(iter(before))
    for name in ("aaa", "zzz"):
        unfinished = runs / f"{name}-{known.rpartition('-')[2]}"
        unfinished.mkdir()
        shutil.copy(runs / known / "config.yaml", unfinished)
    done = command("train", *constant, "-m", "model.state_dim=4,8")
    assert done.stdout.count("finished before") == 2


def test_job_that_another_process_finishes_before_its_lock_is_left_as_it_is(
    swept: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = jobs_of(swept[0] / RUNS)["state_dim-4"]
    folder = Path(shutil.copytree(done, tmp_path / done.name, ignore=shutil.ignore_patterns("metrics.json")))

    @contextmanager
    def locked_later(folder: Path) -> Iterator[None]:
        with locked(folder):
            shutil.copy(done / "metrics.json", folder)
            before.update({path: path.stat().st_mtime_ns for path in folder.rglob("*")})
            yield

    before: dict[Path, int] = {}
    monkeypatch.setattr(run, "locked", locked_later)
    metrics = run.train(restore(yaml.safe_load((done / "config.yaml").read_text())), folder, resuming=True)
    assert metrics == json.loads((done / "metrics.json").read_text())
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_launchers_give_the_same_results(
    launcher: str, swept: tuple[Path, list[str]], tmp_path: Path, command: Command
) -> None:
    folder, arguments = swept
    options = {"joblib": ["hydra.launcher.n_jobs=2"], "submitit_local": ["hydra.launcher.cpus_per_task=1"]}
    one_thread = {"env": os.environ | {"OMP_NUM_THREADS": "1"}}
    done = command("train", *arguments, f"hydra/launcher={launcher}", *options[launcher], **one_thread)
    assert done.returncode == 0, done.stdout + done.stderr
    expected = jobs_of(folder / RUNS)
    actual = jobs_of(tmp_path / RUNS)
    assert set(actual) == {"state_dim-4", "state_dim-8"}
    for name, folder in actual.items():
        assert folder.name == expected[name].name
        figures = [json.loads((path / "metrics.json").read_text()) for path in (folder, expected[name])]
        # the number of threads changes last bits
        assert figures[0]["validation/loss"] == pytest.approx(figures[1]["validation/loss"], rel=1e-4)


def test_two_sweeps_at_once_share_a_folder(small_overrides: list[str], tmp_path: Path) -> None:
    arguments = [*small_overrides, *QUICK, "-m", "model.state_dim=4,8,6"]
    command = [sys.executable, "-m", "rnn_imdb.train", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=tmp_path, **pipes) for _ in "ab"]
    outputs = [process.communicate(timeout=240) for process in processes]
    # one that ends while the other still trains says so
    unfinished = ["jobs run in another process" in out for out, _ in outputs]
    assert [process.returncode for process in processes] == list(map(int, unfinished)), outputs
    assert not all(unfinished)
    runs = tmp_path / RUNS
    assert all((job / "metrics.json").is_file() for job in jobs_of(runs).values())
    with (runs / "results.csv").open() as file:
        assert sorted(row["model.state_dim"] for row in csv.DictReader(file)) == ["4", "6", "8"]


def test_slurm_has_a_ready_configuration(command: Command) -> None:
    done = command("train", "hydra/launcher=slurm", "--cfg", "hydra", "-p", "hydra.launcher")
    assert done.returncode == 0, done.stderr
    assert "SlurmLauncher" in done.stdout
    assert "array_parallelism: 32" in done.stdout


def test_slurm_is_looked_for_before_anything_is_composed(
    command: Command, small_overrides: list[str], tmp_path: Path
) -> None:
    nowhere = {"env": os.environ | {"PATH": str(tmp_path)}}
    done = command("train", *small_overrides, "-m", "seed=range(9999)", "hydra/launcher=slurm", **nowhere)
    assert done.returncode == 2
    assert done.stderr.startswith(
        "error: hydra/launcher=slurm must find Slurm's commands, but there is no sbatch, srun"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("override", ["trainer=ddp", "resume=auto", "model.state_dim=interval(4,8)"])
def test_sweep_refuses_what_no_job_can_do(override: str, small_overrides: list[str], command: Command) -> None:
    done = command("train", *small_overrides, "-m", "seed=0,1", override)
    assert done.returncode == 2
    assert done.stderr.startswith("error: a ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "WORLD_SIZE"])
def test_sweep_that_is_started_twice_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job.refuse_single(compose("train"))
    monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match=r"a job of a sweep is one process, got .* 2 started by srun or torchrun"):
        job.refuse_single(compose("train"))
