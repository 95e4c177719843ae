"""What the studies share: the command line, sweeps and evaluations that can be continued, tables and figures.

A study is a folder with ``study.py``, run as ``python -m experiments.NAME.study`` from the top of a checkout:

    study.py        the analysis
    sweep.yaml      the trainings (further ones: sweep_WHAT.yaml)
    results.csv     one row a training or measurement, as it came
    README.md       question, command, finding; the table between its marks is written by the command
    *.png           figures
"""

import argparse
import contextlib
import io
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_imdb.common.console import draw_into_files
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import read_json, read_yaml, write_atomically, write_rows
from rnn_imdb.common.style import COLOURS, MARKERS, picture
from rnn_imdb.sweeps.report import markdown_table
from rnn_imdb.sweeps.results import Job, Spread, read_jobs, spread

# before a study imports what draws
draw_into_files()

MARKS = "<!-- table: written by the command -->\n", "<!-- end of the table -->\n"
# enough to run every line of a study, and nothing to conclude from
SHORT = {
    "seed": "0",
    "trainer.max_epochs": "1",
    "trainer.limit_train_batches": "2",
    "trainer.limit_val_batches": "1",
    "trainer.limit_test_batches": "1",
}
# to how many digits the figures of a training are rounded; None makes a whole number
DIGITS = {"parameters": None, "best_epoch": None, "validation/loss": 4, "validation/accuracy": 4}
DIGITS |= {"test/loss": 4, "test/accuracy": 4, "seconds": 1}
# trainings that differ in their seed alone, by what the groups differ in: a name, or values
Groups = Mapping[Any, Sequence[Job]]


class Study:
    """One study and the options of its command line.

    Args:
        file: the ``__file__`` of its program.
        description: one line for ``--help``.
        arguments: the command line, without the program's name.
    """

    def __init__(self, file: str, description: str, arguments: Sequence[str] | None = None) -> None:
        self.home = Path(file).resolve().parent
        self.name = self.home.name
        parser = argparse.ArgumentParser(
            prog=f"python -m experiments.{self.name}.{Path(file).stem}",
            description=description,
            epilog="Given again, the command trains only what is missing. KEY=VALUE goes to rnn_imdb.train, as\n"
            "hydra/launcher=joblib hydra.launcher.n_jobs=2 for trainings side by side.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="options of the trainings")
        parser.add_argument("--short", action="store_true", help="a trial on a few batches, which shows nothing")
        parser.add_argument("--output", type=Path, metavar="F", help="folder for the results (default: the study's)")
        given = parser.parse_args(arguments)
        self.overrides: list[str] = given.overrides
        self.short: bool = given.short
        if self.short and given.output is None:
            parser.error("--short needs --output: its results must not take the place of the study's")
        self.output: Path = given.output or self.home
        self.output.mkdir(parents=True, exist_ok=True)
        self.runs = self.output / "runs" if self.short else Path("experiments") / "runs"

    def sweep(self, file: str = "sweep.yaml", *changes: str, part: str = "", failure: str | None = None) -> list[Job]:
        """The trainings in the folder of a sweep's file, after running what is missing of it; see :func:`results`.

        ``changes`` are further options KEY=VALUE; ``part`` names a folder of their own.
        """
        overrides = [*self.overrides, *changes]
        content = read_yaml(self.home / file)
        axes: dict[str, str] = {key: str(values) for key, values in content["axes"].items()}
        options = []
        if self.short:
            axes = {key: _ends(values) for key, values in axes.items()} | SHORT
            given = {override.partition("=")[0] for override in overrides}
            options = [f"{key}={values}" for key, values in axes.items() if key not in given]
        folder = self.runs / content["name"] / re.sub(r"\W+", "-", part.lower()).strip("-")
        command = [sys.executable, "-m", "rnn_imdb.train", f"sweep={self.home / file}", f"hydra.sweep.dir={folder}"]
        command += [*options, *overrides, "trainer.enable_progress_bar=false"]
        print(" ".join(["python", *command[1:]]), flush=True)
        done = subprocess.run(command)
        # 1 says that jobs failed, or that none could run
        jobs = results(folder, failure) if done.returncode in (0, 1) else []
        if all(job.status == "finished" for job in jobs):
            done.check_returncode()
        return jobs

    def evaluate(self, job: Job, name: str, split: str = "test", /, **data: Any) -> dict[str, float]:
        """Metrics of a training's best epoch on reviews changed as ``data`` says; kept in the run's folder."""
        file = job.folder / f"evaluation_{name}.json"
        if not file.is_file():
            from rnn_imdb.training.evaluation import evaluate

            with contextlib.redirect_stdout(io.StringIO()):
                evaluate(job.folder, data=self.places(job) | data, split=split, output=str(file))
        return read_json(file)

    def places(self, job: Job) -> dict[str, Any]:
        """Where the command line says that the reviews of a training and their cache are."""
        given = {override.partition("=")[0] for override in self.overrides}
        return {name: job.config[f"data.{name}"] for name in ("root", "cache_dir") if f"data.{name}" in given}

    def write_rows(self, rows: Sequence[Mapping[str, Any]], name: str = "results.csv") -> None:
        """Write measurements as CSV, one row each."""
        write_rows(rows, self.output / name)

    def write_summary(
        self, keys: Sequence[str], groups: Groups, columns: Sequence[str], name: str = "README.md"
    ) -> None:
        """:meth:`write_table` with a row a group, which has the values of ``keys``, then ``columns`` of ``COLUMNS``."""
        rows = [
            (*((values,) if isinstance(values, str) else values), *(COLUMNS[column](jobs) for column in columns))
            for values, jobs in groups.items()
        ]
        self.write_table((*keys, *columns), rows, name)

    def write_table(self, header: Sequence[str], rows: Sequence[Sequence[Any]], name: str = "README.md") -> None:
        """Print a Markdown table, and put it between the marks of the document ``name`` beside the results."""
        table = markdown_table(header, rows)
        print(f"\n{table}")
        document = self.output / name
        if document.is_file():
            before, _, rest = document.read_text(encoding="utf-8").partition(MARKS[0])
            after = rest.partition(MARKS[1])[2]
            write_atomically(document, f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}".encode())

    def save(self, draw: Callable[[], Any], name: str) -> None:
        """Save the matplotlib Figure that ``draw`` makes, in the style of all plots, with the first panel's legend."""

        def with_legend() -> Any:
            figure = draw()
            handles, labels = figure.axes[0].get_legend_handles_labels()
            columns = len(labels) if len("".join(labels)) < 70 else 2
            figure.legend(handles, labels, loc="outside lower center", ncols=max(columns, 1))
            return figure

        # no text of a study has a $ but around formulas, and logarithmic axes have powers
        write_atomically(self.output / name, picture(with_legend, mathematics=True))
        print(f"wrote {self.output / name}")


def draw_dots(title: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], colours: Sequence[str]) -> Any:
    """Test accuracies of the trainings in each row: a dot a seed, a bar at their mean, which stands at the right."""
    figure, (axis,) = panels(f"{title}\na dot: one seed; bar and number: their mean", [""], "test accuracy (%)", "")
    figure.set_size_inches(9.6, 1.4 + 0.52 * len(rows))
    for row, (found, colour) in enumerate(zip(rows.values(), colours, strict=True)):
        values = [100 * figures["test/accuracy"] for figures in found]
        mean = sum(values) / len(values)
        axis.plot(values, [row] * len(values), "o", color=colour, alpha=0.6)
        axis.plot(mean, row, "|", color=colour, markersize=22, markeredgewidth=3)
        axis.text(1.02, row, f"{mean:.1f}", transform=axis.get_yaxis_transform(), color=colour, va="center")
    axis.set_yticks(range(len(rows)), [textwrap.fill(name, 40) for name in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    return figure


def draw_spreads(axis: Any, found: Mapping[Any, Spread], number: int, label: str) -> None:
    """A line through means in percent over their places, with bars of ± sd; the ``number``-th colour and marker."""
    means, deviations = [100 * each.mean for each in found.values()], [100 * (each.sd or 0) for each in found.values()]
    # the bars of several lines stand side by side
    places = [place * 1.03**number for place in found]
    axis.errorbar(places, means, deviations, fmt=f"{MARKERS[number]}-", color=COLOURS[number], capsize=3, label=label)


def panels(
    title: str, titles: Sequence[str], xlabel: str, ylabel: str, *, sharey: bool = True
) -> tuple[Any, Sequence[Any]]:
    """A figure and its axes, which stand side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 5))
    axes = figure.subplots(1, len(titles), sharey=sharey, squeeze=False)[0]
    for axis, name in zip(axes, titles, strict=True):
        axis.set(title=name, xlabel=xlabel)
    axes[0].set_ylabel(ylabel)
    figure.suptitle(title)
    return figure, axes


def results(folder: Path, failure: str | None = None) -> list[Job]:
    """The trainings in a sweep's folder: finished, or with an error in which the pattern ``failure`` is found.

    Raises:
        UserError: another is there.
    """
    jobs = read_jobs(folder)
    for job in jobs:
        if job.status != "finished" and not (failure and re.search(failure, job.error)):
            raise UserError(
                f"every training in {folder} must have finished, but {job.name} is {job.status} ({job.error}): "
                "give the command again, or remove that folder"
            )
    return jobs


def _ends(values: str) -> str:
    """The first and the last of several values."""
    several = values.split(",")
    return values if "[" in values else ",".join(dict.fromkeys((several[0], several[-1])))


def rows_of(jobs: Sequence[Job], keys: Sequence[str]) -> list[dict[str, Any]]:
    """One row a training: the options ``keys``, the seed, parameters, figures of the best epoch, and seconds.

    What a training has not, as all figures of one that failed, is empty.
    """
    return [
        {key: job.config[key] for key in (*keys, "seed")}
        | {name: round(job.metrics[name], digits) if name in job.metrics else "" for name, digits in DIGITS.items()}
        for job in jobs
    ]


def search(
    file: str,
    description: str | None,
    candidates: Mapping[str, Sequence[str]],
    columns: Sequence[str],
    arguments: Sequence[str] | None = None,
) -> None:
    """Train what each of the ``candidates`` changes of search.yaml, and write search.csv and search.md."""
    study = Study(file, description or "", arguments)
    chosen = list(candidates.items())[: 1 if study.short else None]
    groups = {name: study.sweep("search.yaml", *changes, part=name) for name, changes in chosen}
    rows = [{"candidate": name} | row for name, jobs in groups.items() for row in rows_of(jobs, ())]
    study.write_rows(rows, "search.csv")
    study.write_summary(["candidate"], groups, columns, "search.md")


def group_by(jobs: Sequence[Job], *keys: str) -> dict[tuple[Any, ...], list[Job]]:
    """Trainings grouped by the values of ``keys``, sorted by them."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.config[key] for key in keys), []).append(job)
    return dict(sorted(groups.items()))


def overfit(jobs: Sequence[Job]) -> float:
    """Mean over seeds of (validation loss of the last epoch - lowest validation loss): what training on costs."""
    losses = [[row["validation/loss"] for row in job.metrics["history"]] for job in jobs]
    return sum(each[-1] - min(each) for each in losses) / len(losses)


def over_seeds(jobs: Sequence[Job], metric: str) -> Spread:
    """Mean and sd of a figure of the best epoch, over the trainings that did not fail."""
    return spread([job.metrics[metric] for job in jobs if job.status == "finished"])


def percent(found: Spread) -> str:
    """``85.5 ± 1.6``, in percent."""
    return found.text(".1f", scale=100)


# what a table can say of trainings that differ in their seed alone
COLUMNS: dict[str, Callable[[Sequence[Job]], Any]] = {
    "seeds": len,
    "parameters": lambda jobs: f"{jobs[0].metrics['parameters']:,}",
    "validation %": lambda jobs: percent(over_seeds(jobs, "validation/accuracy")),
    "validation loss": lambda jobs: over_seeds(jobs, "validation/loss").text(".3f"),
    "test %": lambda jobs: percent(over_seeds(jobs, "test/accuracy")),
    "overfit": lambda jobs: f"{overfit(jobs):.3f}",
    "best epochs": lambda jobs: " ".join(str(job.metrics["best_epoch"]) for job in jobs),
    "radius after training": lambda jobs: over_seeds(jobs, "trained_spectral_radius").text(".2f"),
    "diverged": lambda jobs: f"{sum(job.status != 'finished' for job in jobs)} of {len(jobs)}",
    "minutes a seed": lambda jobs: f"{over_seeds(jobs, 'seconds').mean / 60:.1f}",
}
