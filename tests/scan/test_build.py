"""The build of the kernels on other machines: another processor, and a compiler that lacks something."""

import os
import shutil
import subprocess
import sys
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
import torch
from conftest import with_threads

from rnn_imdb.scan import native, tanh_scan

ROOT = Path(__file__).parents[2]
# a compiler that keeps a record of its calls and refuses what stands in $REFUSED
COMPILER = """#!/bin/sh
echo "$@" >> {folder}/calls
for argument in "$@"; do case "$argument" in {refused}) echo "unsupported option '$argument'" >&2; exit 1;; esac; done
exec gcc "$@"
"""


def build(folder: Path, refused: str, platform: str) -> dict[str, Path]:
    """The kernels that ``platform`` gets from a compiler without the options ``refused``, by their instruction sets."""
    compiler = folder / "compiler"
    compiler.write_text(COMPILER.format(folder=folder, refused=refused))
    compiler.chmod(0o755)
    environment = {"CC": str(compiler), "LDSHARED": f"{compiler} -shared", "_PYTHON_HOST_PLATFORM": platform}
    program = "import setuptools; setuptools.setup()"
    done = subprocess.run(
        [sys.executable, "-c", program, "build_ext", "--build-lib", folder / "lib", "--build-temp", folder / "temp"],
        **{"cwd": ROOT, "env": os.environ | environment, "capture_output": True, "text": True, "timeout": 240},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name.split(".")[0].removeprefix("_cpu_"): path for path in (folder / "lib").rglob("_cpu_*")}


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_a_compiler_without_openmp_builds_the_one_kernel_of_an_arm_machine_for_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(tmp_path, "-fopenmp|-mavx*", "macosx-14.0-arm64")
    assert list(built) == ["baseline"]
    calls = (tmp_path / "calls").read_text().splitlines()
    # the only one that fails is the one that asks for OpenMP
    assert [call for call in calls if "-mavx" in call] == []
    assert sum("-fopenmp" in call for call in calls) == 1
    spec = spec_from_file_location("kernel", built["baseline"])
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda _: spec)
    library = native.load("baseline")
    monkeypatch.setattr(native, "_kernel", lambda: (library, "baseline"))
    projected, weight, start = torch.randn(5, 9, 7), torch.linalg.qr(torch.randn(7, 7)).Q, torch.zeros(5, 7)
    states = with_threads(3, lambda: tanh_scan(projected, weight, start, backend="cpu"))
    torch.testing.assert_close(states, tanh_scan(projected, weight, start, backend="reference"))


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_an_install_without_a_usable_compiler_goes_on(tmp_path: Path) -> None:
    assert build(tmp_path, "*", "linux-x86_64") == {}
