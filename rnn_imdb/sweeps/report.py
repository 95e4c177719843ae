"""The report of a sweep: ``results.csv``, plots, and ``summary.md`` with mean ± sd over seeds and the best model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_imdb.common.errors import UserError, printable
from rnn_imdb.common.files import write_atomically
from rnn_imdb.sweeps.results import (
    MODEL_KEYS,
    Configuration,
    Job,
    format_value,
    rank_configurations,
    short_names,
    varied,
    write_csv,
)
from rnn_imdb.training.outcome import is_number

# by what a figure is multiplied, how it is written, and its unit
_FORMS = {"accuracy": (100.0, ".2f", " %"), "loss": (1.0, ".4f", "")}


def write_report(jobs: Sequence[Job], folder: Path, *, title: str, command: str) -> list[Path]:
    """Write ``results.csv``, plots and ``summary.md`` into ``folder``, and return these files.

    The last names the sweep by its ``title``, and the ``command`` that makes the report again.
    """
    # matplotlib takes long to import
    from rnn_imdb.sweeps.plots import write_plots

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"a report must go into a folder, but {folder} is none ({error.strerror}): name another with --output",
            exit_code=2,
        ) from error
    write_csv(jobs, folder / "results.csv")
    others = [name for key, name in _axes(jobs).items() if key not in MODEL_KEYS]
    plots = write_plots(rank_configurations(jobs), others, folder)
    text = markdown(jobs, title=title, plots={path.name: caption for path, caption in plots.items()}, command=command)
    write_atomically(folder / "summary.md", text.encode("utf-8", errors="replace"))
    return [folder / "results.csv", *plots, folder / "summary.md"]


def _axes(jobs: Sequence[Job]) -> dict[str, str]:
    """What tells configurations apart, all that varies but the seed: dotted keys and their short names."""
    return short_names([key for key in varied(jobs) if key != "seed"])


def markdown(jobs: Sequence[Job], *, title: str, plots: Mapping[str, str], command: str) -> str:
    """The text of ``summary.md``; ``plots`` are file names, each with a caption."""
    configurations = rank_configurations(jobs)
    parts = [f"# {_escaped(title)}", _swept(jobs), _outcome(jobs)]
    if configurations:
        parts += ["## Configurations", _best(configurations), _configurations(configurations, _axes(jobs))]
    if plots:
        parts.append("## Plots")
        parts += [f"{_escaped(caption)}\n\n![{Path(name).stem}]({name})" for name, caption in plots.items()]
    made = f"```bash\n{printable(command)}\n```\n\nEvery job with all its options and figures: `results.csv`."
    return "\n\n".join([*parts, "## Made by", made]) + "\n"


def _swept(jobs: Sequence[Job]) -> str:
    lines = []
    for key in varied(jobs):
        values = {format_value(job.config[key]): job.config[key] for job in jobs if key in job.config}
        numbers = sorted((text for text, value in values.items() if is_number(value)), key=values.__getitem__)
        texts = sorted(values.keys() - set(numbers))
        lines.append(f"- {_code(key)}: {_escaped(', '.join(numbers + texts))}")
    if not lines:
        return "Nothing was swept: every job has the same options." if len(jobs) > 1 else "One run; nothing was swept."
    return "Swept:\n\n" + "\n".join(lines)


def _outcome(jobs: Sequence[Job]) -> str:
    """How many jobs came to which end, and what went wrong."""
    counts = Counter(job.status for job in jobs)
    ends = [f"{counts[end]} {end}" for end in ("finished", "failed", "running", "unfinished", "damaged") if counts[end]]
    text = f"{len(jobs)} job{'s' if len(jobs) > 1 else ''}: {', '.join(ends)}."
    if counts["finished"]:
        minutes = sum(job.metrics.get("seconds", 0.0) for job in jobs) / 60
        spent = f"{minutes / 60:.1f} hours" if minutes >= 120 else f"{minutes:.1f} minutes"
        text += f" The finished took {spent} in all."
    wrong = [job for job in jobs if job.status != "finished"]
    lines = [f"- {_code(job.name)} {job.status}{f': {_code(job.error)}' if job.error else ''}" for job in wrong]
    return "\n\n".join(filter(None, [text, "\n".join(lines)]))


def _best(configurations: Sequence[Configuration]) -> str:
    """The first of ``configurations``, and why that one."""
    best, n = configurations[0], len(configurations[0].jobs)
    validation, test = (_figure(best, f"{split}/accuracy") for split in ("validation", "test"))
    tested = f"{test} test accuracy" if test else "not tested"
    text = f"**Best by validation: {_escaped(best.label)}: {validation} validation accuracy, {tested}** "
    text += f"({n} seed{'s' if n > 1 else ''})."
    if len(configurations) > 1:
        text += " It was chosen by mean validation accuracy alone; no test figure took part in the choice."
    if n == 1:
        text += " One seed says little: several tell a difference from chance."
    again = [_escaped(c.label) for c in configurations if len({job.config["seed"] for job in c.jobs}) < len(c.jobs)]
    if again:
        text += f" A seed ran more than once, which makes n too large, for: {'; '.join(again)}."
    return text


def _configurations(configurations: Sequence[Configuration], axes: Mapping[str, str]) -> str:
    """A table, sorted by validation accuracy, the first row in bold."""
    metrics = [f"{split}/{quantity}" for split in ("validation", "test") for quantity in _FORMS]
    metrics = [metric for metric in metrics if any(found.spread(metric).n for found in configurations)]
    rows = []
    for configuration in configurations:
        config, n = configuration.config, len(configuration.jobs)
        cells = [format_value(config[key]) if key in config else "–" for key in axes]
        cells += [f"{configuration.parameters:,}", str(n)]
        for metric in metrics:
            # some of the jobs may have left the test reviews unread
            tested = configuration.spread(metric).n
            part = f" (n={tested})" if 0 < tested < n else ""
            cells.append(f"{_figure(configuration, metric) or '–'}{part}")
        rows.append([_escaped(cell) for cell in cells])
    rows[0] = [f"**{cell}**" for cell in rows[0]]
    header = [*map(_escaped, axes.values()), "parameters", "n", *(metric.replace("/", " ") for metric in metrics)]
    many = any(len(configuration.jobs) > 1 for configuration in configurations)
    note = "Mean ± sample standard deviation over n seeds" if many else "One seed each"
    table = markdown_table(header, rows, texts=0).rstrip()
    return f"{note}, of each run's best epoch; sorted by validation accuracy.\n\n{table}"


def _figure(configuration: Configuration, metric: str) -> str:
    """86.76 ± 0.42 % or 0.3216 ± 0.0012; empty where no job has it."""
    scale, form, unit = _FORMS[metric.rpartition("/")[2]]
    text = configuration.spread(metric).text(form, scale=scale)
    return f"{text}{unit}" if text else ""


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, texts: int = 1) -> str:
    """A Markdown table; the first ``texts`` columns are text, the others are figures."""
    lines = [header, [*["---"] * texts, *["---:"] * (len(header) - texts)], *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)


def _escaped(text: str) -> str:
    """``text`` on one line, without a meaning in Markdown."""
    return "".join(f"\\{c}" if c in "\\`*|<>[]&" else c for c in printable(text))


def _code(text: str) -> str:
    return f"`{printable(text).replace('`', chr(39))}`"
