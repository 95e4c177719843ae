"""Compiles the kernels: the same sources once for each instruction set, of which the best is loaded (native.py).

setuptools reads this file by its path, without the package around it.
"""

import runpy
import sysconfig
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

# Sums keep the order in which they are written, and only what is written as fused is fused (-ffp-contract=off): then
# every compiler and every CPU with AVX2 or better computes the same bits. -march=native would tie a wheel to one.
FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
INSTRUCTION_SETS = {"baseline": [], "avx2": ["-mavx2", "-mfma"], "avx512": ["-mavx512f", "-mfma"]}


class BuildKernels(build_ext):
    """An extension for each instruction set of the processor; pyproject.toml names but the one that all have."""

    def finalize_options(self) -> None:
        x86 = sysconfig.get_platform().endswith(("x86_64", "amd64"))
        # setuptools takes only paths from the project's folder, where it runs
        folder = Path("rnn_imdb", "scan", "csrc")
        version = str(runpy.run_path(str(folder / "version.py"))["version"](folder))
        self.distribution.ext_modules = [
            Extension(
                f"rnn_imdb.scan._cpu_{name}",
                sorted(map(str, folder.glob("*.c"))),
                define_macros=[("VERSION", version)],
                extra_compile_args=[*FLAGS, *flags],
                depends=sorted(map(str, folder.glob("*.[hp]*"))),
                # without a compiler the package goes on without
                optional=True,
            )
            for name, flags in INSTRUCTION_SETS.items()
            if x86 or not flags
        ]
        super().finalize_options()

    def build_extension(self, ext: Extension) -> None:
        alone = ext.extra_compile_args
        ext.extra_compile_args, ext.extra_link_args = [*alone, "-fopenmp"], ["-fopenmp"]
        try:
            super().build_extension(ext)
        except (CompileError, LinkError):
            # a compiler without OpenMP, as Apple's
            ext.extra_compile_args, ext.extra_link_args = alone, []
            super().build_extension(ext)
            self.warn(f"{ext.name} uses one thread, since this compiler has no OpenMP")
