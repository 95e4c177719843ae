"""Distributed training: which process speaks for all, what its start must be, and that all end together."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.interrupts import Interrupted

if TYPE_CHECKING:
    import lightning.pytorch as L
    from lightning.fabric.plugins import ClusterEnvironment

# where torchrun, Lightning and Slurm say which of its processes this is
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
# seconds in which a process that failed ends, and then in which the leader ends the others before they speak too
_END, _GRACE = 3.0, 6.0


def is_leader() -> bool:
    """Whether this is the only process of a training, or the first of several."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def cores() -> int:
    """How many processors this process may use: those it is bound to, and no more than Slurm gave to its task."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(bound, int(os.environ.get("SLURM_CPUS_PER_TASK", bound)))


def tasks() -> int:
    """How many processes ``srun`` or ``torchrun`` started with this one, itself included."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS") or os.environ.get("WORLD_SIZE") or 1)


def slurm() -> "list[ClusterEnvironment]":
    """Lightning's Slurm, where ``srun`` started several tasks; elsewhere Lightning starts what there is to start."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    several = tasks() > 1 and "SLURM_STEP_NUM_TASKS" in os.environ and not TorchElasticEnvironment.detect()
    # it would requeue the job, with a checkpoint that every later fit and test takes for its own
    return [SLURMEnvironment(auto_requeue=False)] if several else []


def check_processes(trainer: "L.Trainer") -> None:
    """Raise UserError for processes of a notebook, and where there are not as many as the configuration says."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

    environment = trainer._accelerator_connector.cluster_environment
    devices, nodes = trainer.num_devices, trainer.num_nodes
    started = environment.world_size() if isinstance(environment, (SLURMEnvironment, TorchElasticEnvironment)) else 0
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        wrong = f"several processes must be started by a command, got trainer.devices={devices} in a notebook: give "
        wrong += "trainer.devices=1, or use python -m rnn_imdb.train trainer=ddp"
    elif not started and nodes > 1:
        wrong = f"srun or torchrun must start the processes of several nodes, got trainer.num_nodes={nodes} without "
        wrong += "them, which would wait for the others: start them so, or leave it out"
    elif started and started != devices * nodes:
        wrong = f"srun or torchrun must start a process for each device, got {started} processes and trainer.devices="
        wrong += f"{devices}: give trainer=ddp trainer.devices={started}, or start one process"
    else:
        return
    raise UserError(wrong, exit_code=2)


@contextmanager
def together(trainer: "L.Trainer") -> Iterator[None]:
    """End all processes of ``trainer`` when one fails within the block, and let only one say why.

    Raises:
        UserError: another process was ended by a signal.
        SystemExit: another process failed, and has said why.
    """
    if trainer.world_size > 1 and not is_leader():
        end_with_parent()
    try:
        yield
    except BaseException as error:
        if not is_leader():
            # meanwhile the leader ends this process where another failed first
            if not isinstance(error, Interrupted):
                time.sleep(_GRACE)
        elif trainer.world_size > 1:
            _end_children(trainer, error)
        raise


def end_with_parent() -> None:
    """End this process with its parent, without which it may wait for a message for ever."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end_children(trainer: "L.Trainer", error: BaseException) -> None:
    """Kill the processes that this one started; ``error`` may be no more than a sign that one of them ended."""
    started: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    children = list(started)
    # Lightning looks after them every 5 s, and would kill this process too
    started.clear()
    own = isinstance(error, (UserError, Interrupted))
    deadline = time.monotonic() + _END
    while not own and time.monotonic() < deadline and not any(child.poll() for child in children):
        time.sleep(0.05)
    ended = [(rank, child.returncode) for rank, child in enumerate(children, 1) if child.poll()]
    for child in children:
        child.kill()
        child.wait()
    if own or not ended:
        return
    rank, code = ended[0]
    if 0 < code < 128:
        raise SystemExit(code) from None
    raise UserError(
        f"all processes of a training must live, but process {rank} (from 0) was ended by "
        f"{signal.Signals(abs(code) % 128).name}: make sure that memory suffices, and resume the run"
    ) from error
