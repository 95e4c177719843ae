"""Sweeps that cannot be lost: every job has a folder of its own, and the same command goes on where it stopped."""

import copy
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, redirect_stdout
from math import prod
from pathlib import Path
from shlex import quote
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override, ValueType
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from rnn_imdb.common.console import as_command, one_line
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import CONFIG, ERROR, Busy, expand, read_yaml, refuse_links, write_atomically
from rnn_imdb.config.command_line import is_sweep, parsed, readable, reads_overrides, split
from rnn_imdb.config.compose import check, check_values, conf_folder
from rnn_imdb.config.foreign import check_sweep
from rnn_imdb.config.identity import digest, reviews
from rnn_imdb.sweeps.results import read_jobs, show, write_csv
from rnn_imdb.sweeps.table import table
from rnn_imdb.training.outcome import finished

# longer names are cut: the hash tells jobs apart
_NAME_LENGTH = 120


def prepare(arguments: list[str]) -> list[str]:
    """A command line with all that its sweep needs; other command lines as they are, but with overrides last.

    The axes of ``sweep=NAME`` come from ``conf/sweep/NAME.yaml``, those of ``sweep=FILE.yaml`` from that file, but
    for those that the command line gives. The jobs learn which options are swept, and how many jobs there are.

    Raises:
        UserError: the file cannot be read, or has no name or axes.
    """
    flags, overrides = split(arguments)
    if not reads_overrides(flags):
        return arguments
    chosen = [override.partition("=")[2].strip("'\"") for override in overrides if override.startswith("sweep=")]
    file = conf_folder() / "sweep" / f"{chosen[-1]}.yaml" if chosen else None
    if chosen and chosen[-1].endswith((".yaml", ".yml")):
        file = expand(chosen[-1])
        overrides = [override for override in overrides if not override.startswith("sweep=")]
        overrides.insert(0, f"sweep.name={_read(file)['name']}")
    if file is not None and file.is_file():
        axes = _read(file)["axes"]
        given = {override.lstrip("+~").partition("=")[0] for override in overrides}
        overrides += [f"{key}={_values(value)}" for key, value in axes.items() if key.lstrip("+") not in given]
        if axes and not is_sweep(flags, overrides):
            flags.append("--multirun")
    several = is_sweep(flags, overrides)
    overrides = readable(overrides, several=several)
    if several:
        axes = [item for item in parsed(overrides) if item.is_sweep_override()]
        swept = ",".join(item.get_key_element().lstrip("+") for item in axes)
        overrides += [f"sweep.swept=[{swept}]", f"sweep.jobs={prod(map(_count, axes))}"]
    return [*flags, *overrides]


def _values(values: Any) -> str:
    """The values of an axis as one would type them; a list in a file has one value an entry."""
    return ",".join(show(value) for value in values) if isinstance(values, list) else show(values)


def _count(axis: Override) -> int:
    """How many values an axis has. A glob is one over the files of a group."""
    if axis.value_type == ValueType.GLOB_CHOICE_SWEEP:
        glob: Any = axis.value()
        return len(glob.filter([path.stem for path in (conf_folder() / axis.key_or_group).glob("*.yaml")]))
    return len(list(axis.sweep_string_iterator()))


def _read(file: Path) -> dict[str, Any]:
    """The name and the axes in a sweep's file."""
    try:
        content = read_yaml(file)
        found = {"name": content["name"], "axes": dict(content["axes"])}
        # those in conf/ are the user's own
        if conf_folder() not in file.parents:
            check_sweep(**found)
        return found
    except (OSError, KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"sweep={file} must be a YAML file with a name and axes, as conf/sweep/capacity.yaml is, but it cannot "
            f"be used: {one_line(str(error), 200)}",
            exit_code=2,
        ) from error


def job_folder(*, _root_: DictConfig) -> str:
    """Name of a job's folder: the swept options, and 8 hex digits of a hash of all that affects its results.

    The reviews take part, and the way to them does not: moved reviews find the job again, and other ones do not.
    """
    choices = _root_.hydra.runtime.choices
    swept = list(_root_.sweep.swept)
    last = [key.rpartition(".")[2] for key in swept]
    parts = []
    for key, short in zip(swept, last, strict=True):
        value = choices[key] if key in choices else OmegaConf.select(_root_, key)
        parts.append(f"{short if last.count(short) == 1 else key}-{value}")
    name = re.sub(r"[^\w.+-]+", "-", "_".join(parts))[:_NAME_LENGTH]
    try:
        of_reviews = reviews(_root_)
    except UserError:
        # the job will say so, as its own failure
        of_reviews = None
    return f"{name or 'job'}-{digest(_root_, of_reviews)}"


# registered on import, for the processes of a launcher import this module and nothing else
OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)

_durations: list[float] = []


def refuse_single(config: DictConfig) -> None:
    """Refuse what only a run by itself can do.

    Raises:
        UserError: the configuration asks for it.
    """
    if config.resume is not None:
        raise UserError("a sweep resumes by itself, got resume: give the same command again without it", exit_code=2)
    if config.trainer.fast_dev_run:
        raise UserError(
            f"a sweep compares what its jobs leave, got trainer.fast_dev_run={config.trainer.fast_dev_run}, which "
            "leaves nothing: leave it out, or try one run by itself",
            exit_code=2,
        )
    if config.trainer.strategy != "auto" or config.trainer.devices not in (1, "auto"):
        raise UserError(
            f"a job of a sweep is one process, got trainer.strategy={config.trainer.strategy} "
            f"trainer.devices={config.trainer.devices}: leave trainer=default and run jobs side by side with "
            "hydra/launcher=joblib, or run each training by itself",
            exit_code=2,
        )


def run_job(config: DictConfig, folder: Path) -> None:
    """Run, resume or skip one job of a sweep, and say so on one line; a failure stays in the job's folder.

    Raises:
        UserError: the sweep asks for what no job can do.
    """
    hydra = HydraConfig.get()
    refuse_single(config)
    workers = _workers(hydra)
    label = f"job {hydra.job.num + 1}/{config.sweep.jobs}  {folder.name}"
    started = time.monotonic()
    if folder.is_symlink():
        raise UserError(f"a job of a sweep must have a folder of its own, but {folder} is a link: remove it")
    try:
        refuse_links(folder)
        metrics, before = finished(folder), " before"
        if metrics is None:
            metrics, before = _run(config, folder, workers), ""
            _durations.append(time.monotonic() - started)
    except Busy:
        print(f"{label}: runs in another process", flush=True)
        return
    except Exception as error:
        write_atomically(folder / ERROR, traceback.format_exc().encode("utf-8", errors="replace"))
        print(f"{label}: failed: {one_line(str(error), 200)}", flush=True)
        if config.sweep.fail_fast:
            raise UserError(f"{label} failed, and sweep.fail_fast=true: see {folder / ERROR}") from error
        return
    left = (config.sweep.jobs - hydra.job.num - 1) * sum(_durations) / max(len(_durations), 1) / workers
    print(
        f"{label}: finished{before}, validation accuracy {metrics['validation/accuracy']:.2%}, "
        f"{metrics['seconds']:.0f} s; {left / 60:.0f} min left",
        flush=True,
    )


def _run(config: DictConfig, folder: Path, workers: int) -> dict[str, Any]:
    # a finished job, and a command line that is refused, need no torch
    import torch

    from rnn_imdb.training.run import train

    if workers > 1:
        # jobs side by side share the cores, and their bars would overwrite each other
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        config.trainer.enable_progress_bar = False
    if not (folder / CONFIG).is_file():
        # also a job that is refused below is one of the sweep's results
        write_atomically(folder / CONFIG, OmegaConf.to_yaml(config, resolve=True).encode())
    check(config)
    (folder / ERROR).unlink(missing_ok=True)
    with (folder / "output.txt").open("a", encoding="utf-8", errors="replace") as file, redirect_stdout(file):
        return train(config, folder, resuming=True)


def _workers(hydra: Any) -> int:
    """How many jobs run side by side on this machine."""
    count = OmegaConf.select(hydra.launcher, "n_jobs")
    if count is None:
        return 1
    return count if count > 0 else (os.cpu_count() or 1) + 1 + count


class Summary(Callback):
    """What the sweep's own process does: refuse what no job could run with, and show in the end what became of them."""

    # the folder of the sweep that runs in this process
    folder: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        Summary.folder = Path(config.hydra.sweep.dir)
        given = copy.deepcopy(config)
        with open_dict(given):
            del given["hydra"]
        # Hydra turns other exceptions of a callback into warnings
        with as_command():
            check_values(given)
            refuse_single(given)
        if not config.sweep.swept:
            print("no option has several values, as seed=0,1,2 has: a sweep of one job", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        with as_command():
            _conclude(Path(config.hydra.sweep.dir))


def _conclude(folder: Path) -> None:
    """Print and write what became of the jobs; end the process where some failed."""
    jobs = read_jobs(folder)
    print(f"\n{table(jobs)}\n")
    write_csv(jobs, folder / "results.csv")
    print(f"written to {folder / 'results.csv'}\nreport       python -m rnn_imdb.report {quote(str(folder))}")
    failed = [job for job in jobs if job.status in ("failed", "damaged")]
    if failed:
        lines = [f"{len(failed)} of {len(jobs)} jobs failed; the same command tries them again:"]
        lines += [f"  {job.name}: {job.error}" for job in failed]
        print("\n".join(lines), flush=True)
        raise SystemExit(1)


@contextmanager
def outliving_workers() -> Iterator[None]:
    """End a sweep by its table also where the system killed one of the launcher's workers."""
    try:
        yield
    except RuntimeError as error:
        # joblib's is of the first kind; those of Slurm's workers are known only where submitit is installed
        lost = isinstance(error, BrokenExecutor) or type(error).__module__.startswith("submitit.")
        if Summary.folder is None or not lost:
            raise
        print(
            "error: a worker of the sweep was killed, as happens where memory runs out, and its jobs are unfinished: "
            "the same command goes on (with fewer jobs side by side, if need be)",
            file=sys.stderr,
        )
        _conclude(Summary.folder)
        raise SystemExit(1) from None
