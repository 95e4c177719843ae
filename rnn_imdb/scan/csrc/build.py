"""Compiles the kernels: the same sources once for each instruction set, of which the best is loaded (native.py).

setuptools reads this file by its path, without the package around it.
"""

import runpy
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

# Sums keep the order in which they are written, and only what is written as fused is fused (-ffp-contract=off): then
# every compiler and every CPU with AVX2 or better computes the same bits. -march=native would tie a wheel to one.
FLAGS = ["-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
INSTRUCTION_SETS = {"avx512": ["-mavx512f", "-mfma"], "avx2": ["-mavx2", "-mfma"], "baseline": []}


class BuildKernels(build_ext):
    """Gives every extension of pyproject.toml, which names only its instruction set, the sources and the flags."""

    def build_extension(self, ext: Extension) -> None:
        # setuptools takes only paths from the project's folder, where it runs
        folder = Path("rnn_imdb", "scan", "csrc")
        ext.sources = sorted(map(str, folder.glob("*.c")))
        ext.depends = sorted(map(str, folder.glob("*.[hp]*")))
        ext.define_macros = [("VERSION", str(runpy.run_path(str(folder / "version.py"))["version"](folder)))]
        ext.extra_compile_args = [*FLAGS, *INSTRUCTION_SETS[ext.name.rpartition("_")[2]]]
        ext.extra_link_args = ["-fopenmp"]
        super().build_extension(ext)
