"""What a sweep left behind: its jobs, those still planned, as CSV, and averaged over seeds. Imports nothing heavy."""

import json
import math
import os
import re
import stat
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from rnn_imdb.common import files
from rnn_imdb.common.console import counted, one_line
from rnn_imdb.common.errors import UserError, printable
from rnn_imdb.common.files import CONFIG, ERROR, METRICS
from rnn_imdb.common.runs import PLANNED
from rnn_imdb.config.identity import digest, flat, options
from rnn_imdb.training.outcome import read_metrics, recorded_reviews

# what sweeps are made for comes first in its group
MODEL_KEYS = ("model.state_dim", "model.embedding_dim", "model.readout")
# groups of hyper-parameters, in the order in which they are shown
_GROUPS = ("model", "optimizer", "trainer", "data", "callbacks")
# where a job's reviews stand among its options
REVIEWS = "data.reviews"
# what a group that is swept over chooses
_GROUP_OPTIONS = {"optimizer": "optimizer.name", "data": "data.source"}
CSV_METRICS = (
    *("parameters", "best_epoch", "epochs", "seconds", "validation/loss", "validation/accuracy"),
    *("test/loss", "test/accuracy", "test/auroc", "test/f1", "test/calibration_error"),
)
ERROR_WIDTH = 300
# one that another process trains in is running; an unfinished one was interrupted; a planned one has no folder yet
STATUSES = ("finished", "running", "unfinished", "failed", "damaged", "planned")


@dataclass(frozen=True)
class Job:
    """One run folder, or one that a sweep is still to make."""

    folder: Path
    # by dotted keys, with data.reviews, which tells its reviews from others; empty where it cannot be read
    config: dict[str, Any]
    # what metrics.json holds; empty unless the job finished
    metrics: dict[str, Any] = field(default_factory=dict)
    status: str = "finished"
    # one line on what went wrong in a failed or damaged job
    error: str = ""

    @property
    def name(self) -> str:
        # unlike resolve, it ends where links lead in a circle
        return printable(Path(os.path.realpath(self.folder)).name)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The options that decide its result; of a planned job, those that were swept."""
        return self.config if self.status == "planned" else options(self.config)

    @property
    def digest(self) -> str:
        """The hash of its options and reviews, with which its folder's name ends where a sweep made it."""
        config = {key: value for key, value in self.config.items() if key != REVIEWS}
        # a job has no record of its reviews before they are read
        return digest(config, self.config[REVIEWS]) if REVIEWS in self.config else self.name[-8:]


def format_value(value: Any) -> str:
    """A value of a configuration as one would type it on the command line."""
    return printable(value) if isinstance(value, str) else json.dumps(value, default=str)


def shown(value: Any) -> str:
    """:func:`format_value`, but of a number that was drawn at random the first four digits."""
    text = format_value(value)
    return f"{value:.4g}" if isinstance(value, float) and len(text) > 9 else text


def duration(seconds: float) -> str:
    """``seconds``, or so many minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


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
    """Mean and sample standard deviation of ``values``; NaN where one is not finite or there are none.

    >>> spread([0.84, 0.86]).text(".1f", scale=100)
    '85.0 ± 1.4'
    """
    if not values or not all(map(math.isfinite, values)):
        return Spread(math.nan, None, len(values))
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), sd, len(values))


@dataclass(frozen=True)
class Configuration:
    """Finished jobs, at least one, that differ in nothing but the seed."""

    jobs: list[Job]

    @property
    def config(self) -> dict[str, Any]:
        return self.jobs[0].config

    @property
    def parameters(self) -> int:
        return self.jobs[0].metrics["parameters"]

    def label(self, keys: Sequence[str], form: Callable[[Any], str] = shown) -> str:
        """The options ``keys``, on one line; of the model where there are none."""
        names = short_names([key for key in keys if key != "seed"] or MODEL_KEYS)
        return ", ".join(f"{name} {form(self.config[key])}" for key, name in names.items() if key in self.config)

    def spread(self, metric: str) -> Spread:
        """Mean and deviation of ``metric`` over the jobs that have it."""
        return spread([job.metrics[metric] for job in self.jobs if metric in job.metrics])

    def percent(self, split: str) -> str:
        """86.76 ± 0.42, the accuracy on the reviews of ``split``; empty where no job has it."""
        return self.spread(f"{split}/accuracy").text(".2f", scale=100)


def best_in_words(settings: Sequence[Configuration], keys: Sequence[str]) -> str:
    """The first of ``settings``, which are ranked by validation, told by the options ``keys``."""
    best = settings[0]
    test = f"{best.percent('test')} % test accuracy" if best.percent("test") else "not tested"
    text = f"{best.label(keys, format_value)}: {best.percent('validation')} % validation accuracy, {test}"
    return f"Best by validation: {text} ({counted(len(best.jobs), 'seed')})"


def tally(jobs: Sequence[Job]) -> str:
    """How many came to which end: ``12 finished, 2 running``."""
    counts = Counter(job.status for job in jobs)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])


def read_jobs(folder: Path, *, planned: bool = False) -> list[Job]:
    """The jobs of a sweep folder, sorted by name; a run folder is a sweep of one.

    A job with the options and reviews of a finished one, whatever its folder is called, is counted once. One without a
    record of its reviews, as earlier versions left it, gives way to one with a record that got as far. With ``planned``
    those that the sweep is still to begin come last.

    Raises:
        UserError: ``folder`` is not there or holds no run. A job that cannot be read is no error: it is ``damaged``.
    """
    waiting = _read_planned(folder) if planned else []
    try:
        runs = [child for child in folder.iterdir() if _is_run(child)]
        found, problem = list(map(_read_job, [folder] if _is_run(folder) else runs)), "has none"
    except OSError as error:
        found, problem = [], f"cannot be read ({error.strerror})"
    if not found and not waiting:
        raise UserError(
            f"a sweep folder must hold run folders, each with its config.yaml, but {folder} {problem}: name a folder "
            "that rnn_imdb.train made under experiments/runs",
            exit_code=2,
        )
    jobs, seen = [], set()
    for job in sorted(found, key=lambda job: (job.status != "finished", REVIEWS not in job.config, job.name)):
        key = _key(job)
        if job.status == "damaged" or key not in seen:
            jobs.append(job)
        seen |= {key} if job.status == "finished" else set()
        seen |= {_key(job, REVIEWS)} if REVIEWS in job.config else set()
    begun = {job.digest for job in jobs if waiting}
    return sorted(jobs, key=lambda job: job.name) + [job for job in waiting if job.name not in begun]


def write_planned(folder: Path, jobs: Mapping[str, Mapping[str, Any]]) -> None:
    """Note in a sweep's folder what it goes to do: the swept options of its jobs, by their digests."""
    files.write_atomically(folder / PLANNED, json.dumps(jobs, default=OmegaConf.to_object).encode())


def _read_planned(folder: Path) -> list[Job]:
    """What the last sweep here went to do, done or not; a file that is no plan plans nothing."""
    try:
        content = files.read_json(folder / PLANNED)
    except (FileNotFoundError, NotADirectoryError, UserError):
        return []
    return [
        Job(folder / name, {_GROUP_OPTIONS.get(key, printable(key)): swept[key] for key in swept}, status="planned")
        for name, swept in (content.items() if isinstance(content, dict) else ())
        if re.fullmatch("[0-9a-f]{8}", name) and isinstance(swept, dict)
    ]


def _key(job: Job, *left_out: str) -> str:
    """What jobs share that are the same run but for the options ``left_out``."""
    kept = {key: value for key, value in job.options.items() if key not in left_out}
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
        if found := recorded_reviews(folder):
            config[REVIEWS] = found
        name = METRICS
        return Job(folder, config, read_metrics(folder / METRICS))
    except (UserError, FileNotFoundError) as error:
        if name == CONFIG or isinstance(error, UserError):
            return Job(folder, config, status="damaged", error=f"{name}: {one_line(str(error), ERROR_WIDTH)}")
    try:
        lines = files.read_text(folder / ERROR, "replace").strip().splitlines() or ["error.txt is empty"]
    except FileNotFoundError:
        # a lock that may not be opened tells nothing
        with suppress(UserError, OSError):
            return Job(folder, config, status="running" if files.is_held(folder) else "unfinished")
        return Job(folder, config, status="unfinished")
    except UserError as error:
        lines = [f"error.txt: {error}"]
    return Job(folder, config, status="failed", error=one_line(lines[-1], ERROR_WIDTH))


def _read_config(path: Path) -> dict[str, Any]:
    """A run's configuration with dotted keys. Raises UserError where it is none."""
    config = {printable(key): value for key, value in flat(files.read_yaml(path)).items()}
    for key, kind in (("model.state_dim", int), ("model.embedding_dim", int), ("model.readout", str), ("seed", int)):
        if not isinstance(config.get(key), kind):
            raise UserError(f"it must be a run's configuration, but {key} is {config.get(key)!r}")
    return config


def in_order(keys: Iterable[str]) -> list[str]:
    """Those of ``keys`` that are hyper-parameters or options of callbacks, group by group, the seed last."""
    known = sorted(set(keys))
    first = [key for key in MODEL_KEYS if key in known]
    rest = [key for group in _GROUPS for key in known if key.partition(".")[0] == group and key not in first]
    return [*first, *rest, *(["seed"] if "seed" in known else [])]


def varied(jobs: Sequence[Job]) -> list[str]:
    """The dotted keys whose values differ between jobs: hyper-parameters and options of callbacks, the seed last.

    An option that only some optimizers have differs where those that have it differ. One that was not swept and follows
    from what was, as Adam's betas from ``optimizer=adam``, is left out.
    """
    jobs = [job for job in jobs if job.config]

    def value(job: Job, key: str) -> Any:
        if key in job.options:
            return format_value(job.options[key])
        # ... stands for what a job does not have, or not yet
        later = job.status == "planned" or (key == REVIEWS and job.status != "finished")
        return ... if later or key.startswith("optimizer.") else None

    keys = in_order(key for job in jobs for key in job.options)
    values = {key: [value(job, key) for job in jobs] for key in keys}
    values = {key: column for key, column in values.items() if len({*column} - {...}) > 1}
    names = [job.config.get("sweep.swept") for job in jobs]
    swept = {_GROUP_OPTIONS.get(str(name), str(name)) for some in names if isinstance(some, list) for name in some}
    # where a group of another kind was swept, nobody knows what follows from it
    if not swept or not swept <= {*keys}:
        return list(values)
    leading = [key for key in values if key in swept or key == "seed"]
    settings = list(zip(*(values[key] for key in leading), strict=True)) or [()] * len(jobs)

    def follows(column: Sequence[Any]) -> bool:
        known = {pair for pair in zip(settings, column, strict=True) if pair[1] is not ...}
        return len({setting for setting, _ in known}) == len(known)

    return [key for key, column in values.items() if key in leading or not follows(column)]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key, or the whole key where two would be the same."""
    # optimizer.name says which optimizer
    names = {key: key.removesuffix(".name").rpartition(".")[2] for key in keys}
    return {key: name if list(names.values()).count(name) == 1 else key for key, name in names.items()}


def in_a_name(text: str) -> str:
    """``text`` as a part of a folder's name, cut where that would be too long."""
    return re.sub(r"[^\w.+-]+", "-", text)[:120]


def rank_configurations(jobs: Sequence[Job], *, apart: bool = False) -> list[Configuration]:
    """Group finished jobs by all that affects a result but the seed; the best mean validation accuracy comes first.

    Equal accuracies are ordered by validation loss; test figures never take part. Of a seed with and without a test,
    which have the same weights, the tested job counts. ``apart`` puts each job into a group of its own.
    """
    groups: dict[str, dict[int, Job]] = defaultdict(dict)
    for job in sorted(jobs, key=lambda job: ("test/accuracy" in job.metrics, job.name)):
        if job.status == "finished":
            groups[job.name if apart else _key(job, "seed", "test")][job.config["seed"]] = job

    def rank(found: Configuration) -> tuple[float, float, str]:
        accuracy, loss = found.spread("validation/accuracy").mean, found.spread("validation/loss").mean
        return -accuracy, loss, found.jobs[0].name

    return sorted((Configuration(list(group.values())) for group in groups.values()), key=rank)


def write_csv(jobs: Sequence[Job], path: Path) -> None:
    """Write one row a job: folder, status, hyper-parameters, options of callbacks that vary, and figures."""
    keys = [key for key in in_order(key for job in jobs for key in job.config) if not key.startswith("callbacks.")]
    keys += [key for key in varied(jobs) if key not in keys]
    rows = [
        {"folder": _cell(job.name), "status": job.status}
        | {_cell(key): _cell(job.config[key]) if key in job.config else "" for key in keys}
        | {name: job.metrics.get(name, "") for name in CSV_METRICS}
        for job in jobs
    ]
    files.write_rows(rows, path)


def _cell(value: Any) -> str:
    """``value`` for a table; a spreadsheet shows a text that begins as a formula does behind an apostrophe."""
    text = format_value(value)
    return f"'{text}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else text
