"""The report of a sweep: ``results.csv``, plots, and ``summary.md`` with mean ± sd over seeds and the best model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rnn_imdb.common.console import counted
from rnn_imdb.common.errors import UserError, printable
from rnn_imdb.common.files import write_atomically
from rnn_imdb.sweeps import results
from rnn_imdb.sweeps.results import Configuration, Job, shown
from rnn_imdb.training.outcome import is_number

# settings in the table, and jobs that went wrong; values of an option
MOST, MOST_VALUES = 100, 12
# by what a figure is multiplied, how it is written, and its unit
_FORMS = {"accuracy": (100.0, ".2f", " %"), "loss": (1.0, ".4f", "")}


def write_report(jobs: Sequence[Job], folder: Path, *, title: str, command: str) -> list[Path]:
    """Write ``results.csv``, plots, and ``summary.md`` with a ``title`` and the ``command``; return these files."""
    # matplotlib takes long to import
    from rnn_imdb.sweeps.plots import write_plots

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"a report must go into a folder, but {folder} is none ({error.strerror}): name another with --output",
            exit_code=2,
        ) from error
    results.write_csv(jobs, folder / "results.csv")
    keys = [key for key in results.varied(jobs) if key != "seed"]
    plots = write_plots(results.rank_configurations(jobs), keys, folder)
    text = markdown(jobs, title=title, plots={path.name: caption for path, caption in plots.items()}, command=command)
    write_atomically(folder / "summary.md", text.encode("utf-8", errors="replace"))
    return [folder / "results.csv", *plots, folder / "summary.md"]


def markdown(jobs: Sequence[Job], *, title: str, plots: Mapping[str, str], command: str) -> str:
    """The text of ``summary.md``; ``plots`` are file names, each with a caption."""
    settings, keys = results.rank_configurations(jobs), results.varied(jobs)
    parts = [f"# {_escaped(title)}", _swept(jobs, keys), _outcome(jobs)]
    if settings:
        parts += ["## Configurations", _best(settings, keys), _table(settings, keys)]
    if plots:
        parts.append("## Plots")
        parts += [f"{_escaped(caption)}\n\n![{Path(name).stem}]({name})" for name, caption in plots.items()]
    made = f"```bash\n{printable(command)}\n```\n\nEvery job with all its options and figures: `results.csv`."
    return "\n\n".join([*parts, "## Made by", made]) + "\n"


def _swept(jobs: Sequence[Job], keys: Sequence[str]) -> str:
    lines = []
    for key in keys:
        values = {shown(job.config[key]): job.config[key] for job in jobs if key in job.config}
        numbers = sorted((text for text, value in values.items() if is_number(value)), key=values.__getitem__)
        texts = numbers + sorted(values.keys() - set(numbers))
        if len(texts) > MOST_VALUES:
            texts = [f"{texts[0]} to {texts[-1]}", f"{len(texts)} values"]
        lines.append(f"- {_code(key)}: {_escaped(', '.join(texts))}")
    if not lines:
        return "Nothing was swept: every job has the same options." if len(jobs) > 1 else "One run; nothing was swept."
    return "Swept:\n\n" + "\n".join(lines)


def _outcome(jobs: Sequence[Job]) -> str:
    """How many jobs came to which end, and what went wrong."""
    text = f"{counted(len(jobs), 'job')}: {results.tally(jobs)}."
    if any(job.metrics for job in jobs):
        seconds = sum(job.metrics.get("seconds", 0.0) for job in jobs)
        text += f" The finished took {results.duration(seconds)} in all."
    wrong = [job for job in jobs if job.status != "finished"]
    lines = [f"- {_code(job.name)} {job.status}{f': {_code(job.error)}' if job.error else ''}" for job in wrong[:MOST]]
    lines += [f"- and {len(wrong) - MOST} more"] if len(wrong) > MOST else []
    return "\n\n".join(filter(None, [text, "\n".join(lines)]))


def _best(settings: Sequence[Configuration], keys: Sequence[str]) -> str:
    """The first of ``settings``, and why that one."""
    text = f"**{_escaped(results.best_in_words(settings, keys))}.**"
    if len(settings) > 1:
        text += " It was chosen by mean validation accuracy alone; no test figure took part in the choice."
    if len(settings[0].jobs) == 1:
        text += " One seed says little: several tell a difference from chance."
    return text


def _table(settings: Sequence[Configuration], keys: Sequence[str]) -> str:
    """The best settings in a table, sorted by validation accuracy, the first row in bold."""
    names = results.short_names([key for key in keys if key != "seed"])
    metrics = [f"{split}/{quantity}" for split in ("validation", "test") for quantity in _FORMS]
    metrics = [metric for metric in metrics if any(setting.spread(metric).n for setting in settings)]
    rows = []
    for setting in settings[:MOST]:
        config, n = setting.config, len(setting.jobs)
        cells = [shown(config[key]) if key in config else "–" for key in names]
        cells += [f"{setting.parameters:,}", str(n)]
        for metric in metrics:
            scale, form, unit = _FORMS[metric.rpartition("/")[2]]
            found = setting.spread(metric)
            # some of the jobs may have left the test reviews unread
            part = f" (n={found.n})" if found.n < n else ""
            cells.append(f"{found.text(form, scale=scale)}{unit}{part}" if found.n else "–")
        rows.append([_escaped(cell) for cell in cells])
    rows[0] = [f"**{cell}**" for cell in rows[0]]
    header = [*map(_escaped, names.values()), "parameters", "n", *(metric.replace("/", " ") for metric in metrics)]
    many = any(len(setting.jobs) > 1 for setting in settings)
    note = "Mean ± sample standard deviation over n seeds" if many else "One seed each"
    more = f"; the best {MOST} of {len(settings)}" if len(settings) > MOST else ""
    table = markdown_table(header, rows, texts=0).rstrip()
    return f"{note}, of each run's best epoch; sorted by validation accuracy{more}.\n\n{table}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, texts: int = 1) -> str:
    """A Markdown table; the first ``texts`` columns are text, the others are figures."""
    lines = [header, [*["---"] * texts, *["---:"] * (len(header) - texts)], *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)


def _escaped(text: str) -> str:
    """``text`` on one line, without a meaning in Markdown."""
    return "".join(f"\\{c}" if c in "\\`*|<>[]&" else c for c in printable(text))


def _code(text: str) -> str:
    return f"`{printable(text).replace('`', chr(39))}`"
