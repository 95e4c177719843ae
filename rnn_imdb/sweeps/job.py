"""A job of a sweep, which runs, resumes or skips what its folder holds, and what the sweep does around its jobs."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.console import as_command, one_line
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, CONFIG, ERROR, LAST, Busy, refuse_links, write_atomically
from rnn_imdb.common.interrupts import Interrupted, deferred, interruptible
from rnn_imdb.common.processes import cores, tasks
from rnn_imdb.config.checks import check, check_values
from rnn_imdb.config.identity import digest, reviews
from rnn_imdb.sweeps.leaderboard import leaderboard
from rnn_imdb.sweeps.results import duration, in_a_name, read_jobs, short_names, write_csv
from rnn_imdb.training.outcome import finished

# what a finished job does not keep, by sweep.keep
LEFT_OUT = {"best": [LAST], "last": [BEST], "both": [], "none": [BEST, LAST]}
# seconds of each job that this process trained
_durations: list[float] = []


def job_folder(*, _root_: DictConfig) -> str:
    """Name of a job's folder: the swept options, and 8 hex digits of a hash of all that affects its results.

    The hash covers the reviews but not the path to them: moved reviews find the job again, other reviews do not. A
    folder with this hash is the job's whatever else its name says, for another sweep may go over other options.
    """
    values = swept(_root_)
    try:
        of_reviews = reviews(_root_)
    except UserError:
        # the job will say so, as its own failure
        of_reviews = None
    ending = f"-{digest(_root_, of_reviews)}"
    there = [path for path in Path(_root_.hydra.sweep.dir).glob(f"*{ending}") if (path / CONFIG).is_file()]
    if len(there) > 1:
        # an earlier version may have left several
        there = [max(there, key=lambda path: (finished(path) is not None, path.name))]
    if there:
        return there[0].name
    names = short_names(list(values)).items()
    return (in_a_name("_".join(f"{name}-{values[key]}" for key, name in names)) or "job") + ending


def swept(config: DictConfig) -> dict[str, Any]:
    """The swept options of a job with its values; of a group that is swept, the file."""
    choices = config.hydra.runtime.choices
    return {key: choices[key] if key in choices else OmegaConf.select(config, key) for key in config.sweep.swept}


# registered on import, for the processes of a launcher import this module and nothing else
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def refuse_single(config: DictConfig) -> None:
    """Raise UserError where a configuration asks for what only a run by itself can do."""
    trainer = config.trainer
    if config.resume is not None:
        raise UserError("a sweep resumes by itself, got resume: give the same command again without it", exit_code=2)
    if trainer.fast_dev_run:
        raise UserError(
            f"a sweep compares what its jobs leave, got trainer.fast_dev_run={trainer.fast_dev_run}, which leaves "
            "nothing: leave it out",
            exit_code=2,
        )
    if trainer.strategy != "auto" or trainer.devices not in (1, "auto") or tasks() > 1:
        raise UserError(
            f"a job of a sweep is one process, got trainer.strategy={trainer.strategy} trainer.devices="
            f"{trainer.devices} and {tasks()} started by srun or torchrun: start one, and run jobs side by side with "
            "hydra/launcher=joblib or slurm",
            exit_code=2,
        )


@contextmanager
def _requeued() -> Iterator[None]:
    """In a job of a cluster, end at a signal as a training does, never with 0; Slurm then starts the job again."""
    if "SUBMITIT_EXECUTOR" not in os.environ:
        yield
        return
    try:
        with interruptible():
            yield
    except Interrupted as interrupt:
        from submitit import JobEnvironment

        from rnn_imdb.sweeps.slurm import states

        print(f"interrupted by {interrupt}", flush=True)
        job = JobEnvironment()
        again = interrupt.exit_code == 128 + job._usr_sig()
        if job.cluster == "slurm":
            # one that is cancelled, or out of time, runs no more
            again = (states([job.job_id]) or {}).get(job.job_id, ("", ""))[0] == "RUNNING"
        if again:
            # submitit's own signal, at which it requeues the job and ends the process
            signal.raise_signal(job._usr_sig())
        raise SystemExit(interrupt.exit_code) from None


def objectives(config: DictConfig) -> list[str]:
    """The figures that a search makes better."""
    given = config.sweep.objective
    return [given] if isinstance(given, str) else list(given)


def label(number: int, config: DictConfig, folder: Path) -> str:
    """The beginning of a job's line; ``number`` is counted from 0, and some sweepers do not tell how many there are."""
    total = f"/{config.sweep.jobs}" if number < config.sweep.jobs else ""
    return f"job {number + 1}{total}  {folder.name}"


def finished_line(metrics: dict[str, Any], before: str = "") -> str:
    """What is told of a job that finished."""
    return f"finished{before}, validation accuracy {metrics['validation/accuracy']:.2%}, {metrics['seconds']:.0f} s"


@_requeued()
def run_job(config: DictConfig, folder: Path) -> Any:
    """Run, resume or skip one job of a sweep, and say so on one line; a failure stays in the job's folder.

    Returns:
        The figure of ``sweep.objective``, or the list of several; None where the job is not finished.
    """
    hydra = HydraConfig.get()
    refuse_single(config)
    if folder.is_symlink():
        raise UserError(f"a job of a sweep must have a folder of its own, but {folder} is a link: remove it")
    # joblib's processes: a negative number leaves cores free
    n_jobs = OmegaConf.select(hydra.launcher, "n_jobs") or 1
    workers = n_jobs if n_jobs > 0 else max(1, cores() + 1 + n_jobs)
    job = label(hydra.job.num, config, folder)
    started = time.monotonic()
    try:
        metrics, before = finished(folder), " before"
        if metrics is None:
            refuse_links(folder)
            metrics, before = _train(config, folder, workers), ""
            for path in LEFT_OUT[config.sweep.keep]:
                (folder / path).unlink(missing_ok=True)
            _durations.append(time.monotonic() - started)
    except Busy:
        print(f"{job}: runs in another process", flush=True)
        return None
    except Exception as error:
        write_atomically(folder / ERROR, traceback.format_exc().encode("utf-8", errors="replace"))
        print(f"{job}: failed: {one_line(str(error), 200)}", flush=True)
        if config.sweep.fail_fast:
            raise UserError(f"{job} failed, and sweep.fail_fast=true: see {folder / ERROR}") from error
        return None
    left = (config.sweep.jobs - hydra.job.num - 1) * sum(_durations) / max(len(_durations), 1) / workers
    # a process of a cluster's knows of no other job
    later = "" if "SUBMITIT_EXECUTOR" in os.environ or left < 1 else f"; {duration(left)} left"
    print(f"{job}: {finished_line(metrics, before)}{later}", flush=True)
    values = [metrics[name] for name in objectives(config)]
    return values[0] if isinstance(config.sweep.objective, str) else values


def _train(config: DictConfig, folder: Path, workers: int) -> dict[str, Any]:
    # a finished job, and a command line that is refused, need no torch
    with deferred():
        import torch

        from rnn_imdb.training.run import train

    if workers > 1:
        # jobs side by side share the cores, and their bars would overwrite each other
        torch.set_num_threads(max(1, cores() // workers))
        config.trainer.enable_progress_bar = False
    if not (folder / CONFIG).is_file():
        # also a job that is refused below is one of the sweep's results
        write_atomically(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True).encode())
    check(config)
    (folder / ERROR).unlink(missing_ok=True)
    # line by line, for who looks on
    with (folder / "output.txt").open("a", 1, encoding="utf-8", errors="replace") as file, redirect_stdout(file):
        return train(config, folder, resuming=True)


class SweepCallback(Callback):
    """Refuses in the beginning what no job could run with, and shows in the end what became of the jobs."""

    # the folder of the sweep that runs in this process
    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SweepCallback.folder = Path(config.hydra.sweep.dir)
        given = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        # Hydra turns other exceptions of a callback into warnings
        with as_command():
            check_values(given)
            refuse_single(given)
            if config.hydra.launcher._target_.endswith(".SlurmLauncher"):
                # submitit is an extra
                from rnn_imdb.sweeps import slurm

                slurm.prepare(config.hydra.launcher)
        if not config.sweep.swept:
            print("no option has several values, as seed=0,1,2 has: a sweep of one job", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        with as_command():
            _conclude(Path(config.hydra.sweep.dir))


def _conclude(folder: Path) -> None:
    """Print and write what became of the jobs; end the process where some failed, or run elsewhere."""
    jobs = read_jobs(folder)
    print(f"\n{leaderboard(jobs)}\n")
    write_csv(jobs, folder / "results.csv")
    print(f"written to {folder / 'results.csv'}\nreport       python -m rnn_imdb.report {quote(str(folder))}")
    for statuses, what in (
        (("failed", "damaged"), "failed; the same command tries them again"),
        (("running",), "run in another process; give the same command again later"),
        (("unfinished",), "are unfinished; the same command goes on"),
    ):
        if found := [f"  {job.name}{job.error and f': {job.error}'}" for job in jobs if job.status in statuses]:
            print(f"{len(found)} of {len(jobs)} jobs {what}:", *found, sep="\n")
    if any(job.status != "finished" for job in jobs):
        raise SystemExit(1)


@contextmanager
def outliving_workers() -> Iterator[None]:
    """Show the leaderboard also where jobs were killed, by the system or by Slurm."""
    try:
        yield
    except RuntimeError as error:
        # joblib's is of the first kind; those of Slurm's workers are known only where submitit is installed
        lost = isinstance(error, BrokenExecutor) or type(error).__module__.startswith("submitit.")
        if SweepCallback.folder is None or not lost:
            raise
        killed = "a worker of the sweep was killed, as happens where memory runs out, and its jobs are unfinished"
        reason = killed if isinstance(error, BrokenExecutor) else one_line(str(error), 200)
        print(f"error: {reason}: the same command goes on (with less side by side, if need be)", file=sys.stderr)
        # it may have come before any job began
        if any(SweepCallback.folder.glob(f"*/{CONFIG}")):
            _conclude(SweepCallback.folder)
        raise SystemExit(1) from None
