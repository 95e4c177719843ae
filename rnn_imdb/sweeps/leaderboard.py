"""A sweep as tables on the terminal, the best first: jobs, means over seeds, two sweeps. Imports nothing heavy."""

import shutil
import textwrap
from collections import Counter
from collections.abc import Sequence

from rnn_imdb.common.console import display_width, one_line, pad
from rnn_imdb.sweeps import results
from rnn_imdb.sweeps.results import Configuration, Job, rank_configurations, shown, varied

# as many settings, and as many that did not finish, are shown; the others are counted
MOST = 20


def leaderboard(jobs: Sequence[Job]) -> str:
    """What a sweep ends with: its jobs, means over seeds where there are several, and the best by validation."""
    if not _several(rank_configurations(jobs)):
        return standings(jobs)
    each = _jobs(jobs, rank_configurations(jobs, apart=True), varied(jobs))
    return f"{each}\n\n{standings([job for job in jobs if job.status == 'finished'])}"


def standings(jobs: Sequence[Job]) -> str:
    """The settings, means over seeds where there are several, jobs that did not finish, and the best by validation."""
    settings, keys = rank_configurations(jobs), varied(jobs)
    best = textwrap.fill(results.best_in_words(settings, keys), _width()) if len(settings) > 1 else ""
    return f"{_jobs(jobs, settings, keys)}\n\n{best}".rstrip()


def _several(settings: Sequence[Configuration]) -> bool:
    return any(len(setting.jobs) > 1 for setting in settings)


def _jobs(jobs: Sequence[Job], settings: Sequence[Configuration], keys: Sequence[str]) -> str:
    """A table of ``settings`` and of the jobs that did not finish."""
    several, tested = _several(settings), any("test/accuracy" in job.metrics for job in jobs)
    keys = [key for key in keys if key != "seed" or not several]
    header = ["val acc %", *(["test acc %"] if tested else []), "seeds" if several else "best ep.", "time"]
    rows = []
    for setting in settings[:MOST]:
        first = setting.jobs[0]
        figures = [setting.percent(split) for split in ("validation", "test")[: 1 + tested]]
        figures.append(str(len(setting.jobs)) if several else f"{first.metrics['best_epoch']:g}")
        rows.append([*_values(first, keys), *figures, results.duration(setting.spread("seconds").mean)])
    others = [job for status in results.STATUSES[1:] for job in jobs if job.status == status]
    # seeds of a setting that came to the same end are told in one line
    ends = Counter((job.status, *_values(job, keys)) for job in others if job.config)
    for (status, *values), n in [*ends.items()][:MOST]:
        rows.append([*values, f"{n} {status}" if several else status, *[""] * (len(header) - 1)])
    unreadable = [f"{one_line(job.name, _width() - 10)}  {job.status}" for job in others if not job.config]
    more = {"": len(settings) - MOST, " that did not finish": len(ends) - MOST, " damaged": len(unreadable) - MOST}
    return "\n".join(
        [
            *(["mean ± sd over seeds:"] if several else []),
            *_aligned(keys, rows, header, spare=2),
            *unreadable[:MOST],
            *(f"and {n} more{what}, see results.csv" for what, n in more.items() if n > 0),
        ]
    )


def _values(job: Job, keys: Sequence[str]) -> list[str]:
    """The options ``keys`` of a job, or its name where there are none."""
    return [shown(job.config[key]) if key in job.config else "" for key in keys] or [job.name]


def side_by_side(first: Sequence[Job], second: Sequence[Job]) -> str:
    """The validation accuracy of two sweeps, A and B, by what varies in either; B - A is taken seed by seed.

    The last lines say what differs between the sweeps and in neither.
    """
    keys = [key for key in results.in_order([*varied(first), *varied(second)]) if key != "seed"]
    pairs: dict[str, list[Configuration | None]] = {}
    for side, jobs in enumerate((first, second)):
        for setting in rank_configurations(jobs):
            values = str([setting.config.get(key) for key in keys])
            pairs.setdefault(values, [None, None])[side] = setting
    rows = []
    for pair in pairs.values():
        jobs = [each.jobs if each else [] for each in pair]
        a, b = ({job.config["seed"]: job.metrics["validation/accuracy"] for job in each} for each in jobs)
        change = results.spread([b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())])
        difference = change.text("+.2f", scale=100).replace("± +", "± ")
        figures = [each.percent("validation") if each else "" for each in pair]
        rows.append([*_values([*jobs[0], *jobs[1]][0], keys), *figures, difference, str(change.n)])
    lines = _aligned(keys, rows[:MOST], ["A val acc %", "B val acc %", "B - A", "seeds"])
    lines += [f"and {len(rows) - MOST} more"] if len(rows) > MOST else []
    apart = [key for key in varied([*first, *second]) if key not in keys and key != "seed"]
    for name, settings in zip("AB", map(rank_configurations, (first, second)), strict=True):
        lines += [f"{name} has {settings[0].label(apart)}"] if apart and settings else []
    return "\n".join(lines)


def _width() -> int:
    """The terminal's columns; 80 where the output is none."""
    return shutil.get_terminal_size((80, 24)).columns


def _aligned(keys: Sequence[str], rows: list[list[str]], header: list[str], spare: int = 0) -> list[str]:
    """Lines of a table in the terminal's width: in each row values of options, which are never cut, then figures.

    Where there is no room, headers break, then the last ``spare`` figures go, then values stand behind the figures, in
    as many lines as they need.
    """
    names, wide = [*results.short_names(keys).values()] or ["run"], _width()
    needed = [max(map(display_width, column)) for column in zip([" "] * (len(names) + len(header)), *rows, strict=True)]
    for broken, left_out in ((False, 0), (True, 0), (True, spare)):
        heads = [[name] for name in [*names, *header]]
        if broken:
            heads = [_broken(name, width) for (name,), width in zip(heads, needed, strict=True)]
        widths = [max(width, *map(len, head)) for width, head in zip(needed, heads, strict=True)]
        kept = len(widths) - left_out
        if sum(widths[:kept]) + 2 * (kept - 1) <= wide:
            high = max(map(len, heads[:kept]))
            top = zip(*([""] * (high - len(head)) + head for head in heads[:kept]), strict=True)
            aligns = [pad] * len(names) + [str.rjust] * len(header)
            columns = list(zip(aligns, widths, strict=True))[:kept]
            return [
                "  ".join(align(text, width) for text, (align, width) in zip(texts, columns, strict=True)).rstrip()
                for texts in [*top, *(row[:kept] for row in rows)]
            ]
    figures = [header, *(row[len(names) :] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*figures, strict=True)]
    first, *others = ("  ".join(map(str.rjust, texts, widths)) + "  " for texts in figures)
    lines = [f"{first}options"]
    for row, text in zip(rows, others, strict=True):
        label = ", ".join(f"{name} {value}" for name, value in zip(names, row, strict=False) if value)
        indent = " " * len(first)
        lines += textwrap.wrap(label, max(wide, len(first) + 20), initial_indent=text, subsequent_indent=indent)
    return lines


def _broken(name: str, width: int) -> list[str]:
    """A header in lines of ``width`` where its words allow it."""
    lines = textwrap.wrap(name.replace("_", "_ "), width, break_long_words=False)
    return [line.replace("_ ", "_") for line in lines]
