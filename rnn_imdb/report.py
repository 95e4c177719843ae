"""``python -m rnn_imdb.report``: what a sweep found, as tables and plots."""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_imdb.common.console import as_command
from rnn_imdb.common.errors import UserError, printable
from rnn_imdb.common.files import write_atomically
from rnn_imdb.sweeps.results import (
    MODEL_KEYS,
    Configuration,
    Job,
    Spread,
    by_configuration,
    read_jobs,
    short_names,
    show,
    varied,
    write_csv,
)
from rnn_imdb.sweeps.table import table
from rnn_imdb.training.outcome import is_number


def write_report(jobs: Sequence[Job], folder: Path, *, title: str, command: str) -> list[Path]:
    """Write ``results.csv``, plots and ``summary.md`` about ``jobs``.

    Args:
        jobs: the jobs of a sweep.
        folder: where the files go; made where it is not there.
        title: the sweep's name.
        command: what a reader types to make the report again.

    Returns:
        The files written. ``summary.md`` comes last: where it is, the others are.

    Raises:
        UserError: a file cannot be written, or matplotlib is not installed.
    """
    try:
        from rnn_imdb.sweeps.plots import write_plots
    except ModuleNotFoundError as error:
        raise UserError(f"plots need {error.name}, which is not installed: pip install {error.name}") from error

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"a report must go into a folder, but {folder} is none ({error.strerror}): name another with --output",
            exit_code=2,
        ) from error
    write_csv(jobs, folder / "results.csv")
    keys = _axes(jobs)
    names = short_names(keys)
    configurations = by_configuration(jobs)
    labels = [_label(configuration, keys or MODEL_KEYS) for configuration in configurations]
    others = [names[key] for key in keys if key not in MODEL_KEYS]
    plots = write_plots(configurations, labels, others, folder)
    text = summary(jobs, title=title, plots={path.name: caption for path, caption in plots.items()}, command=command)
    write_atomically(folder / "summary.md", text.encode("utf-8", errors="replace"))
    return [folder / "results.csv", *plots, folder / "summary.md"]


def _axes(jobs: Sequence[Job]) -> list[str]:
    """What tells configurations apart: all that varies but the seed."""
    return [key for key in varied(jobs) if key != "seed"]


def _label(configuration: Configuration, keys: Sequence[str]) -> str:
    """The values of ``keys`` on one line."""
    names, config = short_names(keys), configuration.config
    return ", ".join(f"{names[key]} {show(config[key])}" for key in keys if key in config)


def summary(jobs: Sequence[Job], *, title: str, plots: Mapping[str, str], command: str) -> str:
    """``summary.md``: what was swept, what became of each job, mean ± sd of each configuration, and the best.

    Args:
        jobs: the jobs of a sweep.
        title: the sweep's name.
        plots: file names of plots, each with a sentence about it.
        command: what a reader types to make the report again.
    """
    configurations = by_configuration(jobs)
    parts = [f"# {_escaped(title)}", _swept(jobs), _outcome(jobs)]
    if configurations:
        parts += ["## Configurations", _best(configurations, _axes(jobs)), _configurations(configurations, _axes(jobs))]
    if plots:
        parts.append("## Plots")
        parts += [f"{_escaped(caption)}\n\n![{Path(name).stem}]({name})" for name, caption in plots.items()]
    parts += [
        "## Made by",
        f"```bash\n{printable(command)}\n```",
        "Every job with all its options and figures: `results.csv`.",
    ]
    return "\n\n".join(parts) + "\n"


def _swept(jobs: Sequence[Job]) -> str:
    lines = []
    for key in varied(jobs):
        values = {show(job.config[key]): job.config[key] for job in jobs if key in job.config}
        texts = sorted(values, key=lambda text: (not is_number(values[text]), _number(values[text]), text))
        lines.append(f"- {_code(key)}: {_escaped(', '.join(texts))}")
    if not lines:
        return "Nothing was swept: every job has the same options." if len(jobs) > 1 else "One run; nothing was swept."
    return "Swept:\n\n" + "\n".join(lines)


def _number(value: Any) -> float:
    return value if is_number(value) else 0.0


def _outcome(jobs: Sequence[Job]) -> str:
    """How many jobs came to which end, and what went wrong."""
    counts = Counter(job.status for job in jobs)
    ends = [
        f"{counts[status]} {status}" for status in ("finished", "failed", "unfinished", "damaged") if counts[status]
    ]
    text = f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}: {', '.join(ends)}."
    if counts["finished"]:
        minutes = sum(job.metrics.get("seconds", 0.0) for job in jobs) / 60
        spent = f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes:.1f} minutes"
        text += f" The finished took {spent} in all."
    wrong = [job for job in jobs if job.status != "finished"]
    lines = [f"- {_code(job.name)} {job.status}{f': {_code(job.error)}' if job.error else ''}" for job in wrong]
    return "\n\n".join([text, "\n".join(lines)]) if lines else text


def _best(configurations: Sequence[Configuration], keys: Sequence[str]) -> str:
    """The first of ``configurations``, and why that one."""
    best, n = configurations[0], len(configurations[0].jobs)
    validation, test = (best.spread(f"{split}/accuracy") for split in ("validation", "test"))
    tested = f"{_percent(test)} test accuracy" if test else "not tested"
    text = (
        f"**Best by validation: {_escaped(_label(best, keys or MODEL_KEYS))}: {_percent(validation)} validation "
        f"accuracy, {tested}** ({n} seed{'s' if n > 1 else ''})."
    )
    if len(configurations) > 1:
        text += " It was chosen by mean validation accuracy alone; no test figure took part in the choice."
    if n == 1:
        text += " One seed says little: several tell a difference from chance."
    again = [c for c in configurations if len({job.config["seed"] for job in c.jobs}) < len(c.jobs)]
    if again:
        names = "; ".join(_escaped(_label(configuration, keys or MODEL_KEYS)) for configuration in again)
        text += f" A seed ran more than once, which makes n too large, for: {names}."
    return text


def _configurations(configurations: Sequence[Configuration], keys: Sequence[str]) -> str:
    """A table, sorted by validation accuracy, the first row in bold."""
    names = short_names(keys)
    metrics = [
        (f"{split} {quantity}", f"{split}/{quantity}", _percent if quantity == "accuracy" else _plain)
        for split in ("validation", "test")
        for quantity in ("accuracy", "loss")
        if any(configuration.spread(f"{split}/{quantity}") for configuration in configurations)
    ]
    header = [*(_escaped(names[key]) for key in keys), "parameters", "n", *(title for title, _, _ in metrics)]
    rows = [header, ["---:"] * len(header)]
    for index, configuration in enumerate(configurations):
        n = len(configuration.jobs)
        cells = [show(configuration.config[key]) if key in configuration.config else "–" for key in keys]
        cells += [f"{configuration.jobs[0].metrics['parameters']:,}", str(n)]
        for _, metric, text in metrics:
            found = configuration.spread(metric)
            # some of the jobs may have left the test reviews unread
            cells.append(text(found) + (f" (n={found.n})" if found and found.n < n else ""))
        rows.append([f"**{_escaped(cell)}**" if index == 0 else _escaped(cell) for cell in cells])
    many = any(len(configuration.jobs) > 1 for configuration in configurations)
    note = "Mean ± sample standard deviation over n seeds" if many else "One seed each"
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{note}, of each run's best epoch; sorted by validation accuracy.\n\n{lines}"


def _plain(found: Spread | None) -> str:
    return found.text() if found else "–"


def _percent(found: Spread | None) -> str:
    """In per cent, the unit once: 86.76 ± 0.42 %."""
    return "–" if found is None else f"{found.text(lambda value: f'{100 * value:.2f}')} %"


def _escaped(text: str) -> str:
    """``text`` on one line, without a meaning in Markdown."""
    return "".join(f"\\{c}" if c in "\\`*|<>[]&" else c for c in printable(text))


def _code(text: str) -> str:
    return f"`{printable(text).replace('`', chr(39))}`"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.report",
        description="Write results.csv, summary.md (mean ± sd over seeds, best by validation) and\nplots of a sweep.",
        epilog="Examples:\n"
        "  python -m rnn_imdb.report experiments/runs/capacity\n"
        "  python -m rnn_imdb.report experiments/runs/capacity --output capacity",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP_FOLDER", help="a folder of run folders, or one run folder")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go; default: SWEEP_FOLDER")
    return parser


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    jobs = read_jobs(given.sweep)
    command = shlex.join(["python", "-m", "rnn_imdb.report", *arguments])
    files = write_report(jobs, given.output or given.sweep, title=given.sweep.resolve().name, command=command)
    print("\n".join([f"{table(jobs)}\n", *(printable(f"wrote {path}") for path in files)]))


if __name__ == "__main__":
    main()
