"""What a sweep left behind: its jobs, as CSV, and averaged over seeds. Imports nothing heavy."""

import csv
import io
import json
import math
import os
import stat
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rnn_imdb.common.console import one_line
from rnn_imdb.common.errors import UserError, printable
from rnn_imdb.common.files import CONFIG, ERROR, METRICS, is_held, read_text, read_yaml, write_atomically
from rnn_imdb.config.identity import flat, options
from rnn_imdb.training.outcome import read_metrics, recorded_reviews

# what sweeps are made for comes first in its group
MODEL_KEYS = ("model.state_dim", "model.embedding_dim", "model.readout")
# groups of hyper-parameters, in the order in which they are shown
_GROUPS = ("model", "optimizer", "trainer", "data", "callbacks")
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
    """One run folder."""

    folder: Path
    # by dotted keys, with data.reviews, which tells its reviews from others; empty where it cannot be read
    config: dict[str, Any]
    # what metrics.json holds; empty unless the job finished
    metrics: dict[str, Any] = field(default_factory=dict)
    # one that another process trains in is running; an unfinished one was interrupted
    status: Literal["finished", "failed", "running", "unfinished", "damaged"] = "finished"
    # one line on what went wrong in a failed or damaged job
    error: str = ""

    @property
    def name(self) -> str:
        # unlike resolve, it ends where links lead in a circle
        return printable(Path(os.path.realpath(self.folder)).name)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (n - 1) of n values; a single value has no deviation."""

    mean: float
    sd: float | None
    n: int

    def text(self, form: str = ".4f", *, scale: float = 1.0) -> str:
        """``mean ± sd``, times ``scale``, each as the format ``form`` says; empty where there are no values."""
        numbers = [] if self.n == 0 else [self.mean] if self.sd is None else [self.mean, self.sd]
        return " ± ".join(format(scale * number, form) for number in numbers)


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of ``values``; NaN where one is not finite or there are none."""
    if not values or not all(map(math.isfinite, values)):
        return Spread(math.nan, None, len(values))
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), sd, len(values))


@dataclass(frozen=True)
class Configuration:
    """Finished jobs, at least one, that differ in nothing but the seed."""

    jobs: list[Job]
    # the options that tell it from other configurations, on one line
    label: str

    @property
    def config(self) -> dict[str, Any]:
        return self.jobs[0].config

    @property
    def parameters(self) -> int:
        return self.jobs[0].metrics["parameters"]

    def spread(self, metric: str) -> Spread:
        """Mean and deviation of ``metric`` over the jobs that have it."""
        return spread([job.metrics[metric] for job in self.jobs if metric in job.metrics])


def read_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep folder, sorted by name; a run folder is a sweep of one.

    A job without a record of its reviews, as earlier versions left it, gives way to one with the same options and a
    record that got as far.

    Raises:
        UserError: ``folder`` is not there or holds no run. A job that cannot be read is no error: it is ``damaged``.
    """
    try:
        runs = [child for child in folder.iterdir() if _is_run(child)]
        jobs = sorted(map(_read_job, [folder] if _is_run(folder) else runs), key=lambda job: job.name)
        problem = "has none"
    except OSError as error:
        jobs, problem = [], f"cannot be read ({error.strerror})"
    if not jobs:
        raise UserError(
            f"a sweep folder must hold run folders, each with its config.yaml, but {folder} {problem}: name a folder "
            "that rnn_imdb.train made under experiments/runs",
            exit_code=2,
        )
    recorded = [job for job in jobs if REVIEWS in job.config]
    began = {_key(job, REVIEWS) for job in recorded}
    ended = {_key(job, REVIEWS) for job in recorded if job.status == "finished"}
    return [
        job
        for job in jobs
        if REVIEWS in job.config or not job.config or _key(job) not in (ended if job.status == "finished" else began)
    ]


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
    config: dict[str, Any] = {}
    name = CONFIG
    try:
        config = _read_config(folder / CONFIG)
        found = recorded_reviews(folder)
        config |= {REVIEWS: found} if found else {}
        name = METRICS
        return Job(folder, config, read_metrics(folder / METRICS))
    except (UserError, FileNotFoundError) as error:
        if name == CONFIG or isinstance(error, UserError):
            return Job(folder, config, status="damaged", error=f"{name}: {one_line(str(error), ERROR_WIDTH)}")
    try:
        lines = read_text(folder / ERROR, "replace").strip().splitlines() or ["error.txt is empty"]
    except FileNotFoundError:
        # a lock that may not be opened tells nothing
        with suppress(UserError, OSError):
            return Job(folder, config, status="running" if is_held(folder) else "unfinished")
        return Job(folder, config, status="unfinished")
    except UserError as error:
        lines = [f"error.txt: {error}"]
    return Job(folder, config, status="failed", error=one_line(lines[-1], ERROR_WIDTH))


def _read_config(path: Path) -> dict[str, Any]:
    """A run's configuration with dotted keys. Raises UserError where it is none."""
    config = {printable(key): value for key, value in flat(read_yaml(path)).items()}
    for key, kind in (("model.state_dim", int), ("model.embedding_dim", int), ("model.readout", str), ("seed", int)):
        if not isinstance(config.get(key), kind):
            raise UserError(f"it must be a run's configuration, but {key} is {config.get(key)!r}")
    return config


def format_value(value: Any) -> str:
    """A value of a configuration as one would type it on the command line."""
    return printable(value) if isinstance(value, str) else json.dumps(value, default=str)


def _in_order(keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` that are hyper-parameters or options of callbacks, group by group, the seed last."""
    known = sorted(set(keys))
    first = [key for key in MODEL_KEYS if key in known]
    rest = [key for group in _GROUPS for key in known if key.startswith(f"{group}.") and key not in first]
    return [*first, *rest, *(["seed"] if "seed" in known else [])]


def varied(jobs: Sequence[Job]) -> list[str]:
    """The dotted keys whose values differ between jobs: hyper-parameters and options of callbacks, the seed last.

    An option that only some optimizers have differs where those that have it differ.
    """
    configs = [options(job.config) for job in jobs if job.config]

    def values(key: str) -> set[str | None]:
        found = {format_value(config[key]) if key in config else None for config in configs}
        return found - {None} if key.startswith("optimizer.") else found

    return [key for key in _in_order(key for config in configs for key in config) if len(values(key)) > 1]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key, or the whole key where two would be the same."""
    # optimizer.name says which optimizer
    names = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    return {key: name if list(names.values()).count(name) == 1 else key for key, name in names.items()}


def rank_configurations(jobs: Sequence[Job]) -> list[Configuration]:
    """Group finished jobs by all that affects a result but the seed; the best mean validation accuracy comes first.

    Equal accuracies are ordered by validation loss; test figures never take part.
    """
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.status == "finished":
            # a tested job and an untested one have the same weights
            groups[_key(job, "seed", "test")].append(job)
    names = short_names([key for key in varied(jobs) if key != "seed"] or MODEL_KEYS)

    def label(job: Job) -> str:
        return ", ".join(f"{name} {format_value(job.config[key])}" for key, name in names.items() if key in job.config)

    def rank(found: Configuration) -> tuple[float, float, str]:
        accuracy, loss = found.spread("validation/accuracy").mean, found.spread("validation/loss").mean
        return -accuracy, loss, found.jobs[0].name

    return sorted((Configuration(group, label(group[0])) for group in groups.values()), key=rank)


def write_csv(jobs: Sequence[Job], path: Path) -> None:
    """Write one row a job: folder, status, hyper-parameters, options of callbacks that vary, and figures."""
    keys = [key for key in _in_order(key for job in jobs for key in job.config) if not key.startswith("callbacks.")]
    keys += [key for key in varied(jobs) if key not in keys]
    rows = []
    for job in jobs:
        values = {_cell(key): _cell(job.config[key]) if key in job.config else "" for key in keys}
        figures = {name: job.metrics.get(name, "") for name in CSV_METRICS}
        rows.append({"folder": _cell(job.name), "status": job.status} | values | figures)
    write_rows(rows, path)


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write CSV with the keys of the first row as its header; raises UserError where ``path`` cannot be written."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, buffer.getvalue().encode("utf-8", errors="replace"))


def _cell(value: Any) -> str:
    """``value`` for a table; a spreadsheet shows a text that begins as a formula does behind an apostrophe."""
    text = format_value(value)
    return f"'{text}" if isinstance(value, str) and value.startswith(_FORMULA) else text
