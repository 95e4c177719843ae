"""Versions of what a result depends on: packages, Python, and the machine."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("rnn_imdb", "torch", "lightning", "torchtext", "hydra-core", "tensorboard", "numpy")


def versions() -> dict[str, str]:
    """Versions of Python and the packages."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def machine() -> dict[str, str]:
    """The system, its processor and the number of cores."""
    return {"system": platform.platform(), "processor": processor(), "cores": str(os.cpu_count())}


def processor() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()
