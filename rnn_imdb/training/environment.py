"""What each command sets up before it computes: seeds, denormals, and silence where others would chatter.

Imports no Lightning.
"""

import logging
import os
import platform
import random
import re
import shlex
import subprocess
import sys
import warnings
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig

from rnn_imdb.common.processes import cores
from rnn_imdb.scan import native

# warnings that others give on every run, and why nobody needs to read them
_CHATTER = (
    # the reviews are in memory, and worker processes would only copy them
    r"The '.*_dataloader' does not have many workers",
    # Lightning 2.6 walks trees in a way that torch 2.13 will one day drop
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # a small run may well have fewer batches than log_every_n_steps
    r"The number of training batches .* is smaller than the logging interval",
    # a resumed run writes where it wrote before
    r"Checkpoint directory .* exists and is not empty",
    # what is logged at the end of an epoch was already computed over all processes
    r"It is recommended to use `self.log\(.*sync_dist=True\)`",
    # the accelerator is chosen in the configuration
    r"GPU available but not used",
    # one process needs no srun, and where srun started several they are found
    r"The `srun` command is available on your system but is not used",
)
# what speaks at the level INFO only when an option asks for it: trainer.profiler, callbacks.early_stopping.verbose
_ASKED_FOR = ("lightning.pytorch.profilers", "lightning.pytorch.callbacks.early_stopping")


def start(seed: int) -> None:
    """Seed everything, silence the known chatter, and treat denormal floats as zero on a CPU.

    Gradients that vanish through hundreds of steps become denormal, and x86 processors then run several times
    slower. The mode is inherited by threads, so it has to be set before torch starts any.
    """
    torch.set_flush_denormal(True)
    # torch heeds what the process is bound to, but not what Slurm gave to the task
    torch.set_num_threads(min(torch.get_num_threads(), cores()))
    for message in _CHATTER:
        warnings.filterwarnings("ignore", message=message)
    # hints about products and hardware come as log messages of the level INFO
    if not (HydraConfig.initialized() and HydraConfig.get().verbose):
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.WARNING)
        for name in _ASKED_FOR:
            logging.getLogger(name).setLevel(logging.INFO)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


PACKAGES = ("rnn_imdb", "torch", "lightning", "torchtext", "hydra-core", "tensorboard", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and the packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def machine() -> dict[str, str]:
    """The system, its processor, the number of cores, and the instruction set of the C kernel."""
    kernel = native.instruction_set() or "none"
    return {"system": platform.platform(), "processor": processor(), "cores": str(os.cpu_count()), "kernel": kernel}


def invocation() -> dict[str, Any]:
    """The command line, what it changed, the number of threads and, in a checkout of the project, its commit."""
    overrides = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    return {
        **{"command": shlex.join(sys.argv), "overrides": overrides},
        **{"threads": torch.get_num_threads(), "commit": _commit()},
    }


@cache
def _commit() -> str | None:
    """The commit of the checkout that the package lies in, with ``-dirty`` where files differ; None without one."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    except FileNotFoundError:
        return None


def processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        info = ""
    name = re.search(r"^model name\s*:(.*)", info, re.MULTILINE)
    return name[1].strip() if name else platform.machine()
