#!/usr/bin/env python3
"""All that only a GPU can show, in one call of ten minutes: tests, benchmarks, trainings, many of them side by side.

    .ci/gpu.py OUT --wheels FOLDER  in an environment made of this Python's packages and the wheels in FOLDER
    .ci/gpu.py OUT                  in this Python's environment as it is
    .ci/gpu.py OUT --dry            the same commands in small, on any machine

OUT receives table.csv, a line for each step; log.txt, all that the steps wrote; and the benchmarks' figures. A step
whose time is up is ended, and the next one begins. FOLDER holds what the machine's Python lacks. If it has torch,
another machine, with a network, a Python of the same version and this package, makes FOLDER by

    pip freeze --exclude-editable | grep -vE '^(torch|triton|nvidia-.*|cuda-.*)==' > names.txt
    pip wheel --no-deps --wheel-dir FOLDER setuptools -r names.txt
"""

import argparse
import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TRAIN, BENCHMARK = "python -m rnn_imdb.train", "python -m rnn_imdb.benchmark"
TESTS = f"python -m pytest -q -p no:cacheprovider {ROOT}/tests"
# experiment=best wants the official archive, which IMDB_ROOT names
BEST = "experiment=best" + ("" if os.environ.get("IMDB_ROOT") else " data=embedded")
SHORT = "data.sequence_length=20"
SMALL = f"{SHORT} trainer.max_epochs=1 " + " ".join(f"trainer.limit_{s}_batches=2" for s in ("train", "val", "test"))
# the figures of a run, of a sweep or of pytest
RESULT = re.compile(r"^(?:test of|weights of) .*|^.* (?:passed|failed|skipped)\b.*|^\S+ +\d+\.\d+ ± .*", re.MULTILINE)


class Step(NamedTuple):
    """A command with its limit in seconds, and what makes it small."""

    name: str
    limit: int
    command: str
    small: str = SMALL


STEPS = [
    Step("tests of the scan", 150, f"{TESTS}/scan/test_scan_gpu.py", "-k cudnn"),
    Step("tests of a training", 60, f"{TESTS}/training/test_gpu.py", ""),
    Step("scan", 90, f"{BENCHMARK} seconds=0.4", "batch_sizes=[2] state_dims=[8] time=9 seconds=0.01"),
    Step("main job", 60, TRAIN),
    Step("epoch", 90, f"{BENCHMARK} epoch=true repeats=1", f"{SHORT} data.batch_size=2000"),
    Step("best", 90, f"{TRAIN} {BEST}"),
]
for size, rate in (32, 0.001), (256, 0.003), (2048, 0.008):
    STEPS.append(Step(f"batches of {size}", 40, f"{TRAIN} data.batch_size={size} optimizer.learning_rate={rate}"))
for workers in (8, 4, 2, 1):
    sweep = f"{TRAIN} -m sweep.name=gpu_{workers} sweep.workers={workers} trainer.max_epochs=1 seed=0,1,2,3,4,5,6,7"
    STEPS.append(Step(f"8 trainings, {workers} at a time", 90 // workers + 20, sweep, f"{SMALL} seed=0,1"))
checked = f"compute-sanitizer --error-exitcode 1 {TESTS}/scan/test_scan_gpu.py -k 'infinities_and_nan and 7'"
STEPS.append(Step("memory checked", 90, checked, ""))


def environment(wheels: Path, folder: Path) -> str:
    """The Python of a new environment in ``folder``, with this checkout and its kernels installed."""
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run([sys.executable, "-m", "venv", "--system-site-packages", folder], check=True)
    subprocess.run([*install, "--ignore-installed", *sorted(wheels.glob("*.whl"))], check=True)
    subprocess.run([*install, "--no-build-isolation", "--editable", ROOT], check=True)
    return python


def run(step: Step, python: str, limit: float, folder: Path, log: Path) -> tuple[str, float, str, str]:
    """Run a step in ``folder`` for at most ``limit`` seconds: its name, seconds, end and what it wrote last."""
    words = [python if word == "python" else word for word in shlex.split(step.command)]
    if not shutil.which(words[0]) or limit < 1:
        return step.name, 0, "left out", f"no {words[0]}, or no time"
    with log.open("a+", encoding="utf-8") as out:
        print(f"\n===== {step.name}: {step.command}", file=out, flush=True)
        begun, place = time.perf_counter(), out.tell()
        process = subprocess.Popen(words, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            ended = f"exit code {process.wait(limit)}"
        except subprocess.TimeoutExpired:
            ended = "time is up"
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = round(time.perf_counter() - begun, 1)
        out.seek(place)
        return step.name, seconds, ended, " | ".join(RESULT.findall(out.read())[-2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--wheels", type=Path)
    parser.add_argument("--dry", action="store_true")
    given = parser.parse_args()
    # a busy machine may take longer over the small commands than a GPU over the large ones
    factor, end = (4 if given.dry else 1), time.perf_counter() + (2000 if given.dry else 580)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "log.txt").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as name, (given.out / "table.csv").open("w", encoding="utf-8") as file:
        folder, table = Path(name), csv.writer(file)
        python = environment(given.wheels, folder / "venv") if given.wheels else sys.executable
        table.writerow(["step", "seconds", "ended", "result"])
        for step in STEPS:
            this = step._replace(command=f"{step.command} {step.small}") if given.dry else step
            row = run(this, python, min(factor * step.limit, end - time.perf_counter()), folder, given.out / "log.txt")
            table.writerow(row)
            print(*row, sep="  ", flush=True)
        for figures in folder.glob("benchmark_*.csv"):
            shutil.copy(figures, given.out)


if __name__ == "__main__":
    main()
