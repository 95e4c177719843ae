"""What a sweep left behind: its jobs, as CSV, and averaged over seeds. Imports nothing heavy."""

import csv
import io
import json
import math
import os
import stat
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rnn_imdb.common.console import one_line
from rnn_imdb.common.errors import UserError, printable
from rnn_imdb.common.files import CONFIG, ERROR, METRICS, read_text, read_yaml, write_atomically
from rnn_imdb.config.identity import flat, options
from rnn_imdb.training.outcome import read_metrics, recorded_reviews

Status = Literal["finished", "failed", "unfinished", "damaged"]
# groups that decide a result, in the order in which they are shown; the seed comes last
GROUPS = ("model", "optimizer", "trainer", "data")
# what sweeps are made for comes first in its group
MODEL_KEYS = ("model.state_dim", "model.embedding_dim", "model.readout")
# where a job's reviews stand among its options
REVIEWS = "data.reviews"
CSV_METRICS = (
    *("parameters", "best_epoch", "epochs", "seconds", "validation/loss", "validation/accuracy"),
    *("test/loss", "test/accuracy", "test/auroc", "test/f1", "test/calibration_error"),
)
ERROR_WIDTH = 300
# what a spreadsheet takes for the beginning of a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Job:
    """One run folder.

    Attributes:
        folder: where it is.
        config: the configuration, with dotted keys, and ``data.reviews``, which tells its reviews from others; empty
            where it cannot be read.
        metrics: what ``metrics.json`` holds; empty unless the job finished.
        status: ``finished``, ``failed``, ``unfinished`` (interrupted or running) or ``damaged``.
        error: one line on what went wrong in a failed or damaged job, else empty.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    status: Status = "finished"
    error: str = ""

    @property
    def name(self) -> str:
        # unlike resolve, it ends where links lead in a circle
        return printable(Path(os.path.realpath(self.folder)).name)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of n values; one value has no deviation."""

    mean: float
    sd: float | None
    n: int

    def text(self, show: Callable[[float], str] = "{:.4f}".format) -> str:
        return show(self.mean) if self.sd is None else f"{show(self.mean)} ± {show(self.sd)}"


@dataclass(frozen=True)
class Configuration:
    """Finished jobs that differ in nothing but the seed."""

    jobs: list[Job]

    @property
    def config(self) -> dict[str, Any]:
        """What the jobs share."""
        return {key: value for key, value in self.jobs[0].config.items() if key != "seed"}

    def spread(self, metric: str) -> Spread | None:
        """Mean and deviation of ``metric`` over the jobs that have it; None where none has."""
        return spread([job.metrics[metric] for job in self.jobs if metric in job.metrics])


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and sample standard deviation of ``values``; None where there are none."""
    if not values:
        return None
    if not all(map(math.isfinite, values)):
        return Spread(math.nan, None, len(values))
    mean = statistics.fmean(values)
    sd = math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1) if len(values) > 1 else None
    return Spread(mean, sd, len(values))


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep folder, sorted by name; a run folder is a sweep of one.

    A job that left no record of its reviews, as those of earlier versions and those that found none, gives way to one
    of the same options that did, and that got as far.

    Raises:
        UserError: ``folder`` is not there or holds no run. A job that cannot be read is no error: it is ``damaged``.
    """
    rule = "a sweep folder must hold run folders, each with its config.yaml"
    remedy = "name a folder that rnn_imdb.train made under experiments/runs"
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"{rule}, but {folder} {problem}: {remedy}", exit_code=2)
    if _is_run(folder):
        return [_read_job(folder)]
    try:
        jobs = [_read_job(child) for child in folder.iterdir() if _is_run(child)]
    except OSError as error:
        raise UserError(f"{rule}, but {folder} cannot be read ({error.strerror}): {remedy}") from error
    if not jobs:
        raise UserError(f"{rule}, but {folder} has none: {remedy}")
    recorded = {(_key(job, REVIEWS), ended) for job in jobs if REVIEWS in job.config for ended in {False, _ended(job)}}
    kept = [job for job in jobs if REVIEWS in job.config or not job.config or (_key(job), _ended(job)) not in recorded]
    return sorted(kept, key=lambda job: job.name)


def _ended(job: Job) -> bool:
    return job.status == "finished"


def _key(job: Job, *left_out: str) -> str:
    """What jobs share that are the same run but for the options ``left_out``."""
    kept = {key: value for key, value in options(job.config).items() if key not in left_out}
    return json.dumps(kept, sort_keys=True, default=str)


def _is_run(folder: Path) -> bool:
    """Whether ``folder`` holds a configuration, or something in its place; reading it tells."""
    try:
        return not stat.S_ISDIR((folder / CONFIG).lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def _read_job(folder: Path) -> Job:
    try:
        config = _read_config(folder / CONFIG)
        found = recorded_reviews(folder)
        config |= {REVIEWS: found} if found else {}
    except (UserError, OSError) as error:
        return Job(folder, {}, status="damaged", error=f"config.yaml: {one_line(str(error), ERROR_WIDTH)}")
    try:
        return Job(folder, config, read_metrics(folder / METRICS))
    except FileNotFoundError:
        pass
    except UserError as error:
        return Job(folder, config, status="damaged", error=f"metrics.json: {one_line(str(error), ERROR_WIDTH)}")
    try:
        lines = read_text(folder / ERROR, "replace").strip().splitlines()
    except FileNotFoundError:
        return Job(folder, config, status="unfinished")
    except UserError as error:
        lines = [f"error.txt: {error}"]
    return Job(
        folder, config, status="failed", error=one_line(lines[-1], ERROR_WIDTH) if lines else "error.txt is empty"
    )


def _read_config(path: Path) -> dict[str, Any]:
    """A run's configuration with dotted keys. Raises UserError where it is none."""
    config = {printable(key): value for key, value in flat(read_yaml(path)).items()}
    for key, kind in (("model.state_dim", int), ("model.embedding_dim", int), ("model.readout", str), ("seed", int)):
        if not isinstance(config.get(key), kind):
            raise UserError(f"it must be a run's configuration, but {key} is {config.get(key)!r}")
    return config


def show(value: Any) -> str:
    """A value of a configuration as one would type it on the command line."""
    return printable(value) if isinstance(value, str) else json.dumps(value, default=str)


def hyperparameters(config: Mapping[str, Any]) -> list[str]:
    """The dotted keys of a configuration that are hyper-parameters: group by group, then the seed."""
    first = [key for key in MODEL_KEYS if key in config]
    keys = first + [
        key for group in GROUPS for key in sorted(config) if key.startswith(f"{group}.") and key not in first
    ]
    return [*keys, "seed"] if "seed" in config else keys


def varied(jobs: Sequence[Job]) -> list[str]:
    """The dotted keys whose values differ between jobs: hyper-parameters and options of callbacks, the seed last.

    An option that only some optimizers have differs where those that have it differ.
    """
    configs = [options(job.config) for job in jobs if job.config]
    union = {key: None for config in configs for key in config}
    keys = hyperparameters(union)
    callbacks = sorted(key for key in union if key.startswith("callbacks."))
    keys = [*(key for key in keys if key != "seed"), *callbacks, *(key for key in keys if key == "seed")]

    def values(key: str) -> set[str | None]:
        found = {show(config[key]) if key in config else None for config in configs}
        return found - {None} if key.startswith("optimizer.") else found

    return [key for key in keys if len(values(key)) > 1]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key, or the whole key where two would be the same."""
    # optimizer.name says which optimizer
    names = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    return {key: name if list(names.values()).count(name) == 1 else key for key, name in names.items()}


def by_configuration(jobs: Sequence[Job]) -> list[Configuration]:
    """Finished jobs grouped by all that affects a result but the seed: the best mean validation accuracy first.

    Equal accuracies are ordered by validation loss; test figures never take part.
    """
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.status == "finished":
            # a tested job and an untested one have the same weights
            groups[_key(job, "seed", "test")].append(job)

    def rank(configuration: Configuration) -> tuple[float, float, str]:
        values = [
            statistics.fmean(job.metrics[name] for job in configuration.jobs)
            for name in ("validation/accuracy", "validation/loss")
        ]
        return -values[0], values[1], configuration.jobs[0].name

    return sorted(map(Configuration, groups.values()), key=rank)


def write_csv(jobs: Sequence[Job], path: Path) -> None:
    """Write one row a job: folder, status, hyper-parameters, and figures as they are in ``metrics.json``.

    Columns depend on nothing but the keys of the configurations; options of callbacks stand there where they vary.

    Raises:
        UserError: the file cannot be written.
    """
    keys = hyperparameters({key: None for job in jobs for key in job.config})
    keys += [key for key in varied(jobs) if key not in keys]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["folder", "status", *map(_cell, keys), *CSV_METRICS])
    for job in jobs:
        options = [_cell(job.config[key]) if key in job.config else "" for key in keys]
        writer.writerow([_cell(job.name), job.status, *options, *(job.metrics.get(name, "") for name in CSV_METRICS)])
    write_atomically(path, buffer.getvalue().encode("utf-8", errors="replace"))


def _cell(value: Any) -> str:
    """``value`` for a table; a spreadsheet shows a text that begins as a formula does behind an apostrophe."""
    text = show(value)
    return f"'{text}" if isinstance(value, str) and value.startswith(_FORMULA) else text
