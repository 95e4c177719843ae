"""What submitit lacks on a Slurm cluster: refusals in a line, news of the jobs, and an end without accounting."""

import io
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, cast

import submitit
from omegaconf import DictConfig
from submitit.core.core import Job
from submitit.core.plugins import get_executors
from submitit.core.utils import DelayedSubmission, FailedJobError, UncompletedJobError

from rnn_imdb.common.console import one_line
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import relative
from rnn_imdb.common.interrupts import Interrupted

# seconds between two looks for results, and between two questions to Slurm
_LOOK, _ASK = 1.0, 5.0
# states that a job leaves by a requeue alone, which the next question sees; squeue forgets it later
_ENDED = (
    *("GONE", "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
    *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
)
# what our command and Slurm write into a job's log before it ends
_REASON = r"(slurmstepd[^:]*: )?error: "
# why jobs wait on every cluster
_USUAL = ("None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime")


def prepare(launcher: DictConfig) -> None:
    """Let submitit use :class:`SlurmExecutor`. Raises UserError where there is no Slurm, or a job has processes."""
    missing = [name for name in ("sbatch", "srun", "squeue", "scancel", "scontrol") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"hydra/launcher=slurm must find Slurm's commands, but there is no {', '.join(missing)}: go to a login "
            "node of the cluster, or use hydra/launcher=joblib",
            exit_code=2,
        )
    if launcher.nodes * launcher.tasks_per_node != 1:
        raise UserError(
            f"a job of a sweep is one process, got hydra.launcher.nodes={launcher.nodes} "
            f"hydra.launcher.tasks_per_node={launcher.tasks_per_node}: leave them out",
            exit_code=2,
        )
    cast("dict[str, Any]", get_executors())["slurm"] = SlurmExecutor


def states(numbers: Collection[str]) -> dict[str, tuple[str, str]] | None:
    """State and reason, as PENDING and Resources, of jobs by their numbers, as 12_3; of an array 12 of all its jobs.

    One that ended minutes ago is missing. None where Slurm does not answer.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(numbers)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "Invalid job id" not in done.stderr:
        return None
    lines = (line.split("|", 2) for line in done.stdout.splitlines())
    return {number: (state, reason) for number, state, reason in lines}


class SlurmExecutor(submitit.SlurmExecutor):
    """Submits jobs, as several arrays where one must not be so large, and waits until all have ended."""

    def _internal_process_submissions(self, delayed_submissions: list[DelayedSubmission]) -> list[Job[Any]]:
        settings = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False).stdout
        largest = re.search(r"MaxArraySize\s*=\s*(\d+)", settings)
        arrays = -(-len(delayed_submissions) // int(largest[1])) if largest else 1
        size = -(-len(delayed_submissions) // arrays)
        # as many as were asked for run side by side
        self.parameters["array_parallelism"] = max(1, self.parameters["array_parallelism"] // arrays)
        jobs: list[Job[Any]] = []
        try:
            # submitit prints what it raises
            with redirect_stderr(io.StringIO()):
                for start in range(0, len(delayed_submissions), size):
                    jobs += super()._internal_process_submissions(delayed_submissions[start : start + size])
        except FailedJobError as error:
            _cancel(jobs)
            reason = one_line(str(error).replace("sbatch: error: ", ""), 300)
            raise UserError(
                f"Slurm must accept the jobs, but says {reason!r}: change hydra.launcher.partition, account, mem_gb, "
                "cpus_per_task or timeout_min"
            ) from error
        numbers = " ".join(_arrays(jobs))
        where = f"(scancel {numbers} ends all {len(jobs)}); logs are in {relative(self.folder.parent)}"
        print(f"submitted to Slurm as {numbers} {where}", flush=True)
        try:
            _wait(jobs, delayed_submissions)
        except Interrupted:
            print(f"\nnothing is lost: the jobs go on in Slurm (scancel {numbers} ends them)", file=sys.stderr)
            raise
        return jobs


def _wait(jobs: Sequence[Job[Any]], submissions: Sequence[DelayedSubmission]) -> None:
    """Print a line for each job that ends; when all have, raise UncompletedJobError where some have no result."""
    launcher: Any = submissions[0].function
    sweep = launcher.config.sweep
    names = {}
    for job, submission in zip(jobs, submissions, strict=True):
        overrides, _, number, *_ = submission.args
        swept = [text for text in overrides if text.lstrip("+").partition("=")[0] in sweep.swept]
        names[job.job_id] = f"job {number + 1}  {' '.join(swept)}".rstrip()
    left = {job.job_id: job for job in jobs}
    lost, gone, told = set[str](), set[str](), {*_USUAL}
    asked = time.monotonic()
    while left:
        # a thousandth and a hundredth of a second for each job, or many would keep file system and Slurm busy
        time.sleep(max(_LOOK, len(left) / 1000))
        lines: dict[str, str] = {}
        for number, job in left.items():
            if job.paths.result_pickle.exists():
                outcome, result = job._get_outcome_and_result()
                lines[number] = _last_line(job.paths.stdout, "job ")
                if outcome == "error":
                    lost.add(number)
                    lines[number] = f"{names[number]}: {one_line(result.strip().splitlines()[-1], 200)}"
        known = states(_arrays(left.values())) if time.monotonic() - asked > max(_ASK, len(left) / 100) else None
        if known is not None:
            asked = time.monotonic()
            found = {number: known.get(number, ("GONE", ""))[0] for number in left if number not in lines}
            ended = {number for number, state in found.items() if state in _ENDED}
            # a result may come a little later, or the job again
            for number in ended & gone:
                lost.add(number)
                lines[number] = f"{names[number]}: {found[number]}: {_last_line(left[number].paths.stderr, _REASON)}"
            gone = ended
            for reason in {reason for state, reason in known.values() if state == "PENDING"} - told:
                print(f"Slurm lets jobs wait: {reason}", flush=True)
                told.add(reason)
        for number, line in lines.items():
            del left[number]
            print(f"{len(jobs) - len(left)}/{len(jobs)} ended: {line}", flush=True)
        if lost and left and sweep.fail_fast:
            _cancel(left.values())
            raise UncompletedJobError(f"sweep.fail_fast=true, so {len(left)} further jobs were cancelled")
    if lost:
        raise UncompletedJobError(f"{len(lost)} of {len(jobs)} jobs ended without a result")


def _arrays(jobs: Collection[Job[Any]]) -> list[str]:
    """The numbers of arrays and single jobs, each once."""
    return list(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))


def _cancel(jobs: Collection[Job[Any]]) -> None:
    if jobs:
        subprocess.run(["scancel", *_arrays(jobs)], check=False)


def _last_line(log: Path, wanted: str) -> str:
    """The last line of a log that begins as ``wanted`` says, or just the last, or where the log should be."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    lines = [line for line in lines if line.strip()]
    found = [line for line in lines if re.match(wanted, line)] or lines or [f"see {log}"]
    return one_line(found[-1], 200)
