"""Runs that are killed, interrupted or grown, and continue as if nothing had been."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import compose, forget_later_options, interrupt_at
from omegaconf import DictConfig, OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from test_report import write_run

from rnn_imdb.common import files
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, LAST, Busy, locked
from rnn_imdb.common.interrupts import Interrupted
from rnn_imdb.config import identity
from rnn_imdb.training import resume
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.run import train

pytestmark = pytest.mark.usefixtures("forked")

OPTIONS = ("trainer.max_epochs=4", "optimizer.learning_rate=0.01", "model.readout=attention", "model.state_dim=8")


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def metrics(folder: Path) -> dict[str, Any]:
    figures = json.loads((folder / "metrics.json").read_text())
    for timed in (figures, *figures["history"]):
        del timed["seconds"]
    return figures


def state(path: Path) -> dict[str, torch.Tensor]:
    content = torch.load(path, weights_only=True)
    optimizer = content["optimizer_states"][0]["state"]
    return content["state_dict"] | {f"{i}.{k}": torch.as_tensor(v) for i in optimizer for k, v in optimizer[i].items()}


def tree(folder: Path) -> dict[str, bytes]:
    """All files below ``folder``."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same_run(actual: Path, expected: Path) -> None:
    for which in (LAST, BEST):
        first, second = state(actual / which), state(expected / which)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first), which
    assert metrics(actual) == metrics(expected)
    assert curves(actual) == curves(expected)


@pytest.fixture(scope="module")
def undisturbed(small_overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    train(compose("train", *small_overrides, *OPTIONS), folder)
    return folder


def continue_later(config: DictConfig, folder: Path) -> None:
    """Resume as another process would: in a later second, and with event files numbered from 0.

    TensorBoard reads the event files of a folder in the order of their names.
    """
    time.sleep(1.05)
    event_file_writer._global_uid = event_file_writer.AtomicCounter(0)
    train(config, folder, resuming=True)


# there are 4 batches in an epoch
@pytest.mark.parametrize("batch", [1, 3, 4, 5, 7, 16])
def test_interrupted_run_continues_from_its_last_epoch(
    undisturbed: Path, small_overrides: list[str], tmp_path: Path, batch: int
) -> None:
    config = compose("train", *small_overrides, *OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, batch)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run")
    assert open_checkpoint(tmp_path / "run" / LAST).step == (batch - 1) // 4 * 4
    continue_later(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", undisturbed)


def test_run_of_an_earlier_version_continues(undisturbed: Path, small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, *OPTIONS)
    folder = tmp_path / "runs" / "run"
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 6)
        with pytest.raises(Interrupted):
            train(config, folder)
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    forget_later_options(saved)
    (folder / "config.yaml").write_text(yaml.safe_dump(saved))
    assert resume.newest_unfinished(tmp_path / "runs", config) == folder
    assert resume.newest_unfinished(tmp_path / "runs", compose("train", *small_overrides, "model.init=torch")) is None
    restored = resume.continued(folder, config, OPTIONS)
    assert restored == config
    with pytest.raises(UserError, match=r"model\.encoder is 'rnn' in .* and 'conv' here"):
        resume.continued(folder, compose("train", *small_overrides, "model.encoder=conv"), ["model.encoder=conv"])
    continue_later(restored, folder)
    assert_same_run(folder, undisturbed)


def interrupt_at_the_end(monkeypatch: pytest.MonkeyPatch, config: DictConfig, folder: Path) -> None:
    """Train, and be told to end when only the figures of the whole run are still to be written."""
    from rnn_imdb.training import run as training

    def interrupted(path: Path, content: bytes) -> None:
        if path.name == "metrics.json":
            raise Interrupted(signal.SIGTERM)
        files.write_atomically(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(training, "write_atomically", interrupted)
        with pytest.raises(Interrupted):
            train(config, folder)


def test_interruption_while_testing_leads_to_the_same_end(
    undisturbed: Path, small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("train", *small_overrides, *OPTIONS)
    interrupt_at_the_end(monkeypatch, config, tmp_path / "run")
    continue_later(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", undisturbed)


def test_finished_run_can_grow(undisturbed: Path, small_overrides: list[str], tmp_path: Path) -> None:
    shorter = compose("train", *small_overrides, *OPTIONS, "trainer.max_epochs=2")
    train(shorter, tmp_path / "run")
    overrides = ["trainer.max_epochs=4"]
    grown = resume.continued(tmp_path / "run", compose("train", *small_overrides, *overrides), overrides)
    assert grown.trainer.max_epochs == 4
    continue_later(grown, tmp_path / "run")
    # the shorter run had its own test and HParams entry at its end
    assert metrics(tmp_path / "run") == metrics(undisturbed)
    assert curves(tmp_path / "run") == curves(undisturbed)


def kill_at_random(run: Callable[[], subprocess.Popen[bytes]], generator: random.Random, longest: float) -> bool:
    """Start a run and kill it; whether it was still running."""
    process = run()
    try:
        process.wait(generator.uniform(0.3, 1.0) * longest)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def test_killed_run_ends_as_if_it_had_not_been_killed(
    undisturbed: Path, small_overrides: list[str], tmp_path: Path
) -> None:
    """With a cold cache, so that a kill can hit encoding, training, checkpointing or testing."""
    folder = tmp_path / "run"
    overrides = [*small_overrides, *OPTIONS, f"data.cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={folder}"]

    def start() -> subprocess.Popen[bytes]:
        arguments = [f"resume={folder}"] if (folder / "config.yaml").is_file() else overrides
        # as many threads as the tests have: the last bits of a weight gradient depend on their number
        options: dict[str, Any] = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "cwd": tmp_path}
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-m", "rnn_imdb.train", *arguments], **quiet, **options)

    generator = random.Random(time.time_ns())
    for _ in range(2):
        kill_at_random(start, generator, longest=3)
    if not (folder / "metrics.json").is_file():
        assert start().wait(timeout=120) == 0
    assert_same_run(folder, undisturbed)


@pytest.mark.parametrize(
    ("numbers", "code"),
    [((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGTERM, signal.SIGINT), 143), ((signal.SIGUSR1,), 138)],
)
def test_signal_leaves_a_checkpoint_and_the_command_to_continue(
    numbers: tuple[signal.Signals, ...], code: int, small_overrides: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "rnn_imdb.train", *small_overrides, "trainer.max_epochs=100000"]
    process = subprocess.Popen(
        [*command, "hydra.run.dir=run", "callbacks.early_stopping.patience=100000"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / BEST).is_file():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "python -m rnn_imdb.train resume=run" in err
    assert "Traceback" not in err
    assert open_checkpoint(tmp_path / "run" / LAST).step % 4 == 0


def test_resume_compares_what_is_given_and_refuses_a_difference_by_name(
    undisturbed: Path, small_overrides: list[str]
) -> None:
    def continued(*overrides: str) -> None:
        resume.continued(undisturbed, compose("train", *small_overrides, *overrides), overrides)

    with pytest.raises(UserError, match=r"model\.state_dim is 8 in .* and 9 here"):
        continued("model.state_dim=9")
    with pytest.raises(UserError, match=r"optimizer\.name is 'rmsprop' in .* and 'adam' here"):
        continued("optimizer=adam")
    with pytest.raises(UserError, match=r"trainer\.max_epochs is 4 in .* and 3 here"):
        continued("trainer.max_epochs=3")
    with pytest.raises(UserError, match=r"callbacks\.early_stopping\._target_ is .* in .* and None here"):
        continued("~callbacks.early_stopping")
    with pytest.raises(UserError, match=r"must be unfinished, but .* is finished: give a larger trainer\.max_epochs"):
        continued("model.state_dim=8")


def test_resume_takes_over_what_is_no_part_of_the_result(undisturbed: Path, small_overrides: list[str]) -> None:
    given = ["trainer.max_epochs=5", "data.root=elsewhere", "trainer.enable_progress_bar=false", "logger=none"]
    given.append("callbacks=insight")
    grown = resume.continued(undisturbed, compose("train", *small_overrides, *given), given)
    assert (grown.data.root, grown.trainer.enable_progress_bar, grown.logger) == ("elsewhere", False, {})
    assert "quality" in grown.callbacks
    assert grown.data.cache_dir == resume.read_config(undisturbed).data.cache_dir


def test_auto_finds_the_newest_unfinished_run_of_the_same_configuration(
    small_overrides: list[str], small_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = identity.reviews(compose("train", *small_overrides))
    for name, seed in (("1", 0), ("2", 0), ("3", 1), ("4", 0)):
        (tmp_path / name).mkdir()
        content = OmegaConf.to_yaml(compose("train", *small_overrides, f"seed={seed}"), resolve=True)
        (tmp_path / name / "config.yaml").write_text(content)
        (tmp_path / name / "versions.json").write_text(json.dumps({"reviews": found}))
    write_run(tmp_path / "5", 0.8)
    for name in ("config.yaml", "versions.json"):
        (tmp_path / "5" / name).write_text((tmp_path / "2" / name).read_text())
    # another process trains there; other reviews; figures that are none
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "config.yaml").write_text((tmp_path / "2" / "config.yaml").read_text())
    (tmp_path / "4" / "versions.json").write_text('{"reviews": "0123456789abcdef"}')
    (tmp_path / "2" / "metrics.json").write_text("{}")
    before = tree(tmp_path)
    # neither the bar, nor the logger, nor where the reviews lie decides a result
    moved = shutil.copy(small_archive, tmp_path.parent / "moved.tar.gz")
    shown = ("resume=auto", "trainer.enable_progress_bar=false", "logger=none", f"data.root={moved}")
    assert resume.find(compose("train", *small_overrides, "resume=auto"), tmp_path) == tmp_path / "6"
    assert tree(tmp_path) == before
    with locked(tmp_path / "6"):
        assert resume.find(compose("train", *small_overrides, *shown), tmp_path) == tmp_path / "2"
    assert resume.find(compose("train", *small_overrides, "resume=auto", "seed=5"), tmp_path) is None
    assert "starting a new one" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "- 1", "data: {", "model: {state_dim: 3}", "\x00"])
def test_damaged_or_missing_configuration_is_refused(content: str, tmp_path: Path) -> None:
    if content:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match="resume must name a run folder"):
        resume.read_config(tmp_path)


def test_two_processes_do_not_share_a_folder(small_overrides: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run"), pytest.raises(Busy, match="is in use: wait, or end it"):
        train(compose("train", *small_overrides), tmp_path / "run")


def test_full_disk_leaves_the_previous_checkpoint_whole(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("train", *small_overrides, *OPTIONS)
    writes = 0
    fsync = files.os.fsync

    def full(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"ckpt must be writable, but it is not \(No space left on device\)"):
        train(config, tmp_path / "run")
    monkeypatch.setattr(files.os, "fsync", fsync)
    assert open_checkpoint(tmp_path / "run" / LAST).step == 4
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_loss_that_is_not_finite_ends_the_run_with_a_remedy(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("optimizer=sgd", "optimizer.learning_rate=100", "optimizer.momentum=0.99", "model.scan=reference")
    config = compose("train", *small_overrides, *options, "trainer.max_epochs=3")
    poison(monkeypatch, step=5)
    with pytest.raises(UserError, match=r"must be finite, but it is nan at step 5 \(learning rate 100, gradient norm"):
        train(config, tmp_path / "run")
    assert open_checkpoint(tmp_path / "run" / LAST).step == 4


def test_loss_that_is_not_finite_at_the_first_step_is_not_put_down_to_the_learning_rate(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, step=0)
    message = r"is nan at step 0 .*: leave model\.spectral_radius and trainer\.precision to their defaults$"
    with pytest.raises(UserError, match=message):
        train(compose("train", *small_overrides, "model.scan=reference"), tmp_path / "run")


def test_csv_keeps_the_rows_of_the_epochs_before_an_interruption(small_overrides: list[str], tmp_path: Path) -> None:
    config = compose("train", *small_overrides, *OPTIONS, "logger=csv", "trainer.log_every_n_steps=1", "test=false")
    train(config, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 11)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run")
    path, whole = (tmp_path / name / "csv" / "metrics.csv" for name in ("run", "whole"))
    # a kill in the middle of a row
    with path.open("a") as file:
        file.write("2,,8")
    train(config, tmp_path / "run", resuming=True)
    assert path.read_text() == whole.read_text()
    # a finished run that trains on keeps them too
    config.trainer.max_epochs = 5
    train(config, tmp_path / "run", resuming=True)
    # but for the best epoch's, which are written in the end
    assert path.read_text().startswith("".join(whole.read_text().splitlines(keepends=True)[:-1]))


def test_best_checkpoint_of_another_history_is_not_scored(
    undisturbed: Path, small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning.pytorch import Trainer

    fit = Trainer.fit

    def replaced(self: Trainer, *arguments: Any, **options: Any) -> None:
        fit(self, *arguments, **options)
        (tmp_path / "run" / BEST).write_bytes((undisturbed / BEST).read_bytes())

    monkeypatch.setattr(Trainer, "fit", replaced)
    with pytest.raises(UserError, match=r"best\.ckpt must be of one of the run's epochs, but .* another history"):
        train(compose("train", *small_overrides, *OPTIONS, "seed=1"), tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_run_that_had_stopped_early_when_it_was_interrupted_does_not_train_on(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # no later epoch improves by so much
    stopping = ("+callbacks.early_stopping.min_delta=9", "callbacks.early_stopping.patience=1", "test=false")
    config = compose("train", *small_overrides, *OPTIONS, *stopping)
    train(config, tmp_path / "whole")
    interrupt_at_the_end(monkeypatch, config, tmp_path / "run")
    continue_later(config, tmp_path / "run")
    assert metrics(tmp_path / "run")["epochs"] == 2
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    # one that is to have more epochs does
    config.trainer.max_epochs = 5
    train(config, tmp_path / "run", resuming=True)
    assert metrics(tmp_path / "run")["epochs"] > 2


def poison(patch: pytest.MonkeyPatch, step: int) -> None:
    """A NaN in the weights from ``step`` on."""
    from rnn_imdb.training.module import SentimentModule

    training_step = SentimentModule.training_step

    def poisoned(self: SentimentModule, batch: Any, batch_idx: int) -> torch.Tensor:
        if self.global_step == step:
            with torch.no_grad():
                self.classifier.head.weight.fill_(torch.nan)
        return training_step(self, batch, batch_idx)

    patch.setattr(SentimentModule, "training_step", poisoned)


@pytest.mark.parametrize("moved", [False, True])
def test_best_epoch_stays_the_best_wherever_the_folder_is(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: bool
) -> None:
    config = compose("train", *small_overrides, "trainer.max_epochs=1")
    train(config, tmp_path / "run")
    # no later epoch can be better
    last = torch.load(tmp_path / "run" / LAST, weights_only=True)
    (state,) = (
        state
        for key, state in last["callbacks"].items()
        if "'monitor': 'validation/loss'" in key and "dirpath" in state
    )
    state["best_model_score"] = state["kth_value"] = torch.tensor(-1.0)
    state["best_k_models"] = dict.fromkeys(state["best_k_models"], torch.tensor(-1.0))
    torch.save(last, tmp_path / "run" / LAST)
    before = (tmp_path / "run" / BEST).read_bytes()
    if moved:
        (tmp_path / "run").rename(tmp_path / "elsewhere")
    config.trainer.max_epochs = 2
    monkeypatch.chdir(tmp_path)
    # named from the working directory
    folder = Path("elsewhere" if moved else "run")
    train(config, folder, resuming=True)
    assert (folder / BEST).read_bytes() == before
    assert json.loads((folder / "metrics.json").read_text())["best_epoch"] == 1
