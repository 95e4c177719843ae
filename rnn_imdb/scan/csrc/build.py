"""Compiles the kernels: the same sources once for each instruction set, of which the best is loaded (native.py).

setuptools reads this file by its path, without the package around it.
"""

from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

# Never -ffast-math or -march=native: the first makes the whole process flush denormals on load and deletes NaN checks,
# the second ties a wheel to one machine.
FLAGS = [
    *("-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros"),
    *("-fassociative-math", "-freciprocal-math"),
]


class BuildKernels(build_ext):
    """Gives every extension of pyproject.toml, which names only its instruction set, the sources and the flags."""

    def build_extension(self, ext: Extension) -> None:
        # setuptools takes only paths from the project's folder, where it runs
        folder = Path("rnn_imdb", "scan", "csrc")
        ext.sources = sorted(map(str, folder.glob("*.c")))
        ext.depends = sorted(map(str, folder.glob("*.h")))
        ext.extra_compile_args = [*FLAGS, *ext.extra_compile_args]
        ext.extra_link_args = ["-fopenmp"]
        super().build_extension(ext)
