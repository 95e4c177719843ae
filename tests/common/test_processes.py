"""Several processes of one training, Slurm, and file systems without locks."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import compose, with_threads
from lightning.fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from test_quality import assert_same_quality
from test_resume import curves

from rnn_imdb.common import processes
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import LAST, LOCK, Busy, locked
from rnn_imdb.common.interrupts import Interrupted
from rnn_imdb.common.processes import is_leader, together
from rnn_imdb.model.embedding import drop_words
from rnn_imdb.training import environment
from rnn_imdb.training.epoch_seed import EpochSeed
from rnn_imdb.training.evaluation import evaluate
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import build_module, build_trainer

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
    config = compose("train", *small_overrides, "trainer.max_epochs=1")
    metrics = train(config, tmp_path / "run", resuming=True)
    assert evaluate(tmp_path / "run", data={"root": config.data.root})["test/loss"] == pytest.approx(
        metrics["test/loss"], rel=1e-5
    )
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
    environment.start(0)
    trainer = build_trainer(compose("train", *small_overrides, *options), tmp_path, [])
    cluster = trainer._accelerator_connector.cluster_environment
    assert type(cluster) is kind
    assert not getattr(cluster, "auto_requeue", False)


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


def test_nodes_that_nobody_starts_are_not_waited_for(small_overrides: list[str], tmp_path: Path) -> None:
    environment.start(0)
    with pytest.raises(UserError, match=r"processes of several nodes, got trainer\.num_nodes=2 without them"):
        build_trainer(compose("train", *small_overrides, "+trainer.num_nodes=2"), tmp_path, [])


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


@pytest.mark.parametrize(("given", "expected"), [(None, 3), ("2", 2), ("8", 3)])
def test_threads_are_as_many_as_the_task_may_use(
    given: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2, 5})
    set_environment(monkeypatch, {"SLURM_CPUS_PER_TASK": given} if given else {})
    assert processes.cores() == expected

    def train_with(threads: int) -> int:
        torch.set_num_threads(threads)
        environment.start(0)
        return torch.get_num_threads()

    assert with_threads(1, lambda: [train_with(1), train_with(4)]) == [1, expected]


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

    monkeypatch.setattr("fcntl.flock", none)
    with locked(tmp_path):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path} has no locks ({os.strerror(number)})")


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EACCES])
def test_lock_of_another_process_is_known_by_either_name(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", held)
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


def trainer_of(*programs: str) -> Any:
    """What is asked of the Trainer of a leader that started ``programs``."""
    children = [subprocess.Popen(["sh", "-c", program]) for program in programs]
    return SimpleNamespace(
        world_size=1 + len(children), strategy=SimpleNamespace(launcher=SimpleNamespace(procs=children))
    )


@pytest.mark.parametrize(
    ("error", "programs", "expected", "message"),
    [
        (UserError("own"), ["sleep 60", "sleep 60"], UserError, "own"),
        (Interrupted(signal.SIGTERM), ["exit 143", "sleep 60"], Interrupted, "SIGTERM"),
        (ZeroDivisionError("own"), ["sleep 60"], ZeroDivisionError, "own"),
        # the other process has said why
        (RuntimeError("Connection closed by peer"), ["sleep 60", "sleep 0.2; exit 3"], SystemExit, "3"),
        (RuntimeError("Connection closed by peer"), ["kill -9 $$"], UserError, r"process 1 \(from 0\) .* by SIGKILL"),
        (RuntimeError("Connection closed by peer"), ["exit 143"], UserError, r"process 1 \(from 0\) .* by SIGTERM"),
    ],
    ids=["error", "signal", "bug", "other", "killed", "terminated"],
)
def test_leader_ends_the_others_and_one_says_why(
    error: BaseException,
    programs: list[str],
    expected: type[BaseException],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_END", 1.0)
    trainer = trainer_of(*programs)
    children = list(trainer.strategy.launcher.procs)
    with pytest.raises(expected, match=message), together(trainer):
        raise error
    assert all(child.returncode for child in children)
    # nothing is left that Lightning's observer would end this process for
    assert trainer.strategy.launcher.procs == []


def test_process_waits_to_be_ended_before_it_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    other: Any = SimpleNamespace(world_size=2)
    waited: list[float] = []
    monkeypatch.setattr(processes.time, "sleep", waited.append)
    monkeypatch.setattr(processes, "end_with_parent", lambda: None)
    with pytest.raises(UserError, match="own"), together(other):
        raise UserError("own")
    assert waited == [processes._GRACE]
    # to the end of a signal it has nothing to say
    with pytest.raises(Interrupted), together(other):
        raise Interrupted(signal.SIGTERM)
    assert waited == [processes._GRACE]


def test_process_ends_with_its_parent() -> None:
    program = "import os, time; from rnn_imdb.common.processes import end_with_parent as end; child = os.fork(); "
    program += "child or end(); time.sleep(0.5 if child else 60)"
    # the pipe ends with the last process that could write
    subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=30, check=True)


def test_loss_that_is_not_finite_on_one_process_is_one_on_all(small_overrides: list[str]) -> None:
    module = build_module(compose("train", *small_overrides), 20)
    others = torch.tensor([torch.nan, 2.0])
    trainer: Any = SimpleNamespace(
        world_size=2,
        strategy=SimpleNamespace(reduce=lambda own, **_: own + others),
        global_step=6,
        log_every_n_steps=10,
    )
    module._trainer = trainer
    assert module.training_step((torch.full((6, 30), 3), torch.ones(6)), 0).isfinite()
    with pytest.raises(UserError, match="must be finite, but it is nan at step 6"):
        module.on_before_optimizer_step(torch.optim.SGD(module.parameters(), lr=0.1))


def test_signal_to_the_first_of_two_processes_ends_both(small_overrides: list[str], tmp_path: Path) -> None:
    options = ["trainer=ddp", "trainer.max_epochs=100000", "callbacks.early_stopping.patience=100000"]
    command = [sys.executable, "-m", "rnn_imdb.train", *small_overrides, *options, "hydra.run.dir=run"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, **quiet)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / LAST).is_file():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGTERM)
    # the pipe ends with the last process that could write
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert not Path(f"/proc/{child}").exists()
    assert err.count("python -m rnn_imdb.train resume=run") == 1
    assert "Traceback" not in err
    assert "deprecated" not in err


def test_two_processes_train_as_one(small_overrides: list[str], tmp_path: Path, command: Callable[..., Any]) -> None:
    options = [*small_overrides, "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "data.batch_size=10"]
    # of what callbacks put together; batches that two processes cannot halve
    options += ["+callbacks.quality._target_=rnn_imdb.insight.callbacks.Quality", "data.evaluation_batch_size=7"]
    environment = {"env": os.environ | {"OMP_NUM_THREADS": "1"}}
    for name, extra in (("one", []), ("two", ["trainer=ddp"])):
        done = command("train", *options, *extra, f"hydra.run.dir={name}", **environment)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        assert "recommended" not in done.stderr
        assert done.stdout.count("parameters:") == 1
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    for name, value in one.items():
        if "/" in name:
            assert two[name] == pytest.approx(value, rel=1e-4), name
    alone, together = (curves(tmp_path / name)["train/loss_step"] for name in ("one", "two"))
    assert [step for step, _ in alone] == [step for step, _ in together] == list(range(14))
    np.testing.assert_allclose([value for _, value in together], [value for _, value in alone], rtol=1e-4)
    assert_same_quality(tmp_path / "one", tmp_path / "two")
