"""Several processes of one training, Slurm, and file systems without locks."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import compose
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from rnn_imdb import lock, session
from rnn_imdb.build import build_trainer
from rnn_imdb.callbacks.epoch_seed import EpochSeed
from rnn_imdb.embedding import drop_words
from rnn_imdb.errors import UserError
from rnn_imdb.evaluation import evaluate
from rnn_imdb.lock import LOCK, Busy, locked
from rnn_imdb.processes import is_leader
from rnn_imdb.training import train

# what a batch script finds in its environment, and a task that srun started
BATCH = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
TASK = BATCH | {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "0"}


@pytest.fixture
def srun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of a Slurm cluster."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


def set_environment(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("job", [{}, BATCH], ids=["none", "batch"])
def test_slurm_neither_warns_nor_gives_other_weights(
    job: dict[str, str],
    srun: None,
    small_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_environment(monkeypatch, job)
    # Lightning's name for what it saved before it requeued a job
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "hpc_ckpt_1.ckpt").write_text("other weights")
    metrics = train(compose("train", *small_overrides, "trainer.max_epochs=1"), tmp_path / "run", resuming=True)
    assert evaluate(tmp_path / "run")["test/loss"] == pytest.approx(metrics["test/loss"], rel=1e-5)
    assert "srun" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("job", "options", "kind"),
    [
        ({}, ["trainer=ddp"], LightningEnvironment),
        # of two tasks that a batch script has, and that no srun started
        (BATCH | {"SLURM_NTASKS": "2"}, ["trainer=ddp"], LightningEnvironment),
        (BATCH, [], LightningEnvironment),
        (TASK, ["trainer=ddp"], SLURMEnvironment),
    ],
    ids=["none", "batch", "one", "task"],
)
def test_slurm_starts_the_processes_only_where_srun_did(
    job: dict[str, str],
    options: list[str],
    kind: type,
    srun: None,
    small_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_environment(monkeypatch, job)
    session.start(0)
    environment = build_trainer(
        compose("train", *small_overrides, *options), tmp_path, []
    )._accelerator_connector.cluster_environment
    assert type(environment) is kind
    assert not getattr(environment, "auto_requeue", False)


@pytest.mark.parametrize(
    ("job", "options"),
    [(TASK, []), (TASK, ["trainer=ddp", "trainer.devices=3"]), ({"TORCHELASTIC_RUN_ID": "0", "WORLD_SIZE": "2"}, [])],
)
def test_processes_are_as_many_as_the_devices(
    job: dict[str, str],
    options: list[str],
    small_overrides: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_environment(monkeypatch, job | {"RANK": "0", "LOCAL_RANK": "0"})
    with pytest.raises(UserError, match=r"a process for each device, got 2 processes and trainer\.devices=[13]: give"):
        build_trainer(compose("train", *small_overrides, *options), tmp_path, [])


@pytest.mark.parametrize("strategy", ["ddp_spawn", "ddp_fork", "ddp_notebook", "fsdp", "deepspeed", "dpp"])
def test_other_strategies_are_refused(strategy: str) -> None:
    with pytest.raises(UserError, match=rf"trainer\.strategy must be one of auto, ddp, .* got '{strategy}'"):
        compose("train", f"trainer.strategy={strategy}", "trainer.devices=2")


def test_processes_started_in_a_notebook_are_refused(
    small_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning.pytorch.trainer.connectors.accelerator_connector._IS_INTERACTIVE", True)
    with pytest.raises(UserError, match=r"must be started by a command, got trainer\.devices=2"):
        build_trainer(compose("train", *small_overrides, "trainer.devices=2"), tmp_path, [])


@pytest.mark.parametrize(
    ("job", "leads"),
    [
        ({}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "1"}, False),
    ],
)
def test_one_process_leads(job: dict[str, str], leads: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, job)
    assert is_leader() == leads


def test_processes_drop_other_words_and_the_first_those_of_a_single_one() -> None:
    tokens = torch.full((8, 50), 5)

    def dropped(rank: int) -> torch.Tensor:
        trainer: Any = SimpleNamespace(current_epoch=3, global_rank=rank)
        EpochSeed(1).on_train_batch_start(trainer, None, None, 0)  # pyright: ignore[reportArgumentType] looks at none
        return drop_words(tokens, 0.3)

    alone, second, third = map(dropped, range(3))
    assert torch.equal(alone, dropped(0))
    assert not torch.equal(alone, second)
    assert not torch.equal(second, third)
    # as in every run so far
    torch.manual_seed(17579876663566485232)
    assert torch.equal(alone, drop_words(tokens, 0.3))


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF])
def test_run_without_locks_goes_on_with_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", none)
    with locked(tmp_path):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: the file system of {tmp_path} has no locks ({os.strerror(number)})")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_lock_of_another_process_is_known_by_either_name(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.fcntl, "flock", held)
    with pytest.raises(Busy, match="is in use: wait, or end it"), locked(tmp_path):
        pass


def test_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / LOCK).symlink_to(tmp_path / "thesis.txt")
    with pytest.raises(UserError, match="cannot be written"), locked(tmp_path / "run"):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_ctrl_c_while_a_command_is_imported_leaves_no_traceback() -> None:
    program = "import sys; sys.argv[0] = '-m'; import rnn_imdb; raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
