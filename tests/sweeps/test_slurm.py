"""Sweeps on a real Slurm of one node, where its packages are; what happens to jobs there changes no bit."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from test_resume import curves, metrics

from rnn_imdb.common.files import LAST

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
missing = [name for name in DAEMONS if not shutil.which(name)]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"needs slurm-wlm and munge, but there is no {', '.join(missing)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="Slurm's daemons need root"),
    pytest.mark.usefixtures("slurm"),
]
# a job's start takes seconds, and 100 epochs take longer than what happens meanwhile
LONG = ["trainer.max_epochs=100", "callbacks.early_stopping.patience=1000", "model.embedding_dim=4"]
LAUNCHER = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=6
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MaxArraySize=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=30
PartitionName=urgent Nodes=ALL PriorityTier=9 PreemptMode=off
"""


def ask(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_for(event: Callable[[], Any], seconds: float = 240) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := event()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def slurm() -> Iterator[None]:
    """One node without accounting, on loopback."""
    # a socket's path may not be long
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(64))
    (folder / "key").chmod(0o600)
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (first, second)]
    values = {"host": socket.gethostname().partition(".")[0], "ports": ports, "folder": folder, "cpus": os.cpu_count()}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**values))
    files = {
        name: folder / f"munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "log-file", "seed-file")
    }
    munge = [f"--{name}={path}" for name, path in (files | {"key-file": folder / "key"}).items()]
    patch = pytest.MonkeyPatch()
    patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    daemons = (["munged", "--foreground", "--force", *munge], ["slurmctld", "-D"], ["slurmd", "-D"])
    with ExitStack() as stack, (folder / "log").open("w") as log:
        for daemon in daemons:
            process = stack.enter_context(subprocess.Popen(daemon, stdout=log, stderr=log, start_new_session=True))
            stack.callback(process.kill)
            if daemon is daemons[0]:
                wait_for(files["socket"].exists)
        try:
            wait_for(
                lambda: "idle" in subprocess.run(["sinfo"], capture_output=True, text=True, check=False).stdout, 30
            )
            yield
            subprocess.run(["scancel", "--user=root"], check=False)
            wait_for(lambda: not ask("squeue", "--noheader"))
        finally:
            patch.undo()
    shutil.rmtree(folder)


def jobs_of(folder: Path) -> dict[str, Path]:
    """Job folders by name without the hash."""
    runs = folder / "experiments" / "runs" / "seed"
    return {path.parent.name.rpartition("-")[0]: path.parent for path in runs.glob("*/config.yaml")}


def start(arguments: list[str], folder: Path) -> "subprocess.Popen[str]":
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "rnn_imdb.train", *arguments], cwd=folder, **pipes)


def test_what_happens_to_jobs_changes_no_bit(small_overrides: list[str], command: Any, tmp_path: Path) -> None:
    for name in ("alone", "slurm"):
        (tmp_path / name).mkdir()
    arguments = [*small_overrides, *LONG, "-m", "seed=0,1"]
    alone = start(arguments, tmp_path / "alone")
    folder = tmp_path / "slurm"
    sweep = start([*arguments, *LAUNCHER], folder)

    def trains(name: str, times: int) -> bool:
        """Whether a job trains after it was started for the given time."""
        job = jobs_of(folder).get(name)
        text = (job / "output.txt").read_text() if job and (job / LAST).is_file() else ""
        return text.count("epoch      loss") == times and bool(re.search(r"/100 .*\n$", text))

    for name in ("seed-0", "seed-1"):
        wait_for(lambda name=name: trains(name, 1))
    # takes the place of others, which have some time to end
    ask("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=true")
    wait_for(lambda: trains("seed-0", 2))
    array = ask("squeue", "--noheader", "--states=RUNNING", "--format=%F").split()[0]
    # Slurm's warning that the time is nearly up
    ask("scancel", "--signal=USR2", f"{array}_0")
    wait_for(lambda: trains("seed-1", 2))
    ask("scancel", f"{array}_1")
    out, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 1, out + err
    assert f"submitted to Slurm as {array} (scancel {array} ends all 2); logs are in experiments/runs/seed/" in out
    lines = [line for line in out.splitlines() if " ended: " in line]
    assert len(lines) == 2
    assert any("ended: job 1/2 seed-0-" in line and "finished, validation accuracy" in line for line in lines)
    assert any("ended: job 2  seed=1: CANCELLED" in line for line in lines)
    assert "1 of 2 jobs ended without a result: the same command goes on" in err
    assert "1 of 2 jobs are unfinished" in out
    assert "Traceback" not in out + err
    assert (folder / "experiments" / "runs" / "seed" / "results.csv").is_file()
    (log,) = folder.glob(f"experiments/runs/seed/.submitit/{array}_0/*.out")
    assert re.findall(r"Requeued job .* \((\d+) remaining timeouts", log.read_text()) == ["100", "100"]
    done = command("train", *arguments, *LAUNCHER, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("finished before") == 1
    out, err = alone.communicate(timeout=240)
    assert alone.returncode == 0, out + err
    expected, found = jobs_of(tmp_path / "alone"), jobs_of(folder)
    assert sorted(expected) == ["seed-0", "seed-1"]
    for name, job in expected.items():
        assert metrics(found[name]) == metrics(job)
        assert curves(found[name]) == curves(job)


def test_sweep_ends_when_slurm_ends_its_jobs(small_overrides: list[str], command: Any) -> None:
    done = command(
        "train", *small_overrides, *LAUNCHER, "-m", "seed=0", "+hydra.launcher.additional_parameters.mem=50M"
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search("1/1 ended: job 1: [A-Z_]+: .*memory limit", done.stdout)
    assert "Traceback" not in done.stderr
    # the other would outlive the test
    failing = ["-m", "data.vocabulary_size=2,50", "sweep.fail_fast=true", "trainer.max_epochs=100000"]
    done = command("train", *small_overrides, *LAUNCHER, *LONG, *failing)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(
        "1/2 ended: job 1  data.vocabulary_size=2: FAILED: error: .*sweep.fail_fast=true: see ", done.stdout
    )
    assert "sweep.fail_fast=true, so 1 further jobs were cancelled" in done.stderr
    assert "1 of 1 jobs failed" in done.stdout or "1 of 2 jobs failed" in done.stdout
    wait_for(lambda: not ask("squeue", "--noheader"))


def test_interrupted_command_leaves_its_jobs_with_slurm(small_overrides: list[str], tmp_path: Path) -> None:
    held = ["-m", "seed=0,1,2,3,4", "+hydra.launcher.additional_parameters.hold=true"]
    sweep = start([*small_overrides, *LAUNCHER, *held], tmp_path)
    assert sweep.stdout
    first, second = sweep.stdout.readline(), sweep.stdout.readline()
    arrays = re.findall(r"submitted to Slurm as (\d+) (\d+) (\d+) \(scancel \1 \2 \3 ends all 5\)", first)[0]
    assert second == "Slurm lets jobs wait: JobHeldUser\n"
    sweep.send_signal(signal.SIGINT)
    _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert f"nothing is lost: the jobs go on in Slurm (scancel {' '.join(arrays)} ends them)" in err
    assert "Traceback" not in err
    assert len(ask("squeue", "--noheader", "--array").splitlines()) == 5
    ask("scancel", *arrays)


@pytest.mark.parametrize(
    ("option", "code", "expected"),
    [
        ("mem_gb=9", 1, "Slurm must accept the jobs, but says 'Memory specification can not be satisfied"),
        ("partition=nosuch", 1, "Slurm must accept the jobs, but says 'invalid partition specified: nosuch"),
        ("tasks_per_node=2", 2, "a job of a sweep is one process, got hydra.launcher.nodes=1 hydra.launcher.tasks_per"),
    ],
)
def test_what_slurm_cannot_do_is_one_line(
    option: str, code: int, expected: str, small_overrides: list[str], command: Any
) -> None:
    done = command("train", *small_overrides, *LAUNCHER, "-m", "seed=0,1", f"hydra.launcher.{option}")
    assert done.returncode == code
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {expected}")
