"""Which run a name means: a path, ``latest``, or the beginning of one run's name. Imports nothing heavy."""

import os
from pathlib import Path

from rnn_imdb.common.errors import UserError, printable
from rnn_imdb.common.files import BEST, CONFIG, expand, relative

# where runs go, from the working directory: a folder each, or a folder of such for a sweep
RUNS = Path("experiments") / "runs"
# what a sweep goes to do, written before its first job begins
PLANNED = "planned.json"
# so many names stand in an error
_NAMED = 5


def find_run(name: str | Path, runs: Path = RUNS, *, sweeps: bool = False) -> Path:
    """The file or folder at the path ``name``; where there is none, the folder in ``runs`` that it means.

    That is the one begun last for ``latest``, else the one whose name it is or begins: of all runs, also those in the
    folders of sweeps; with ``sweeps``, of sweeps and single runs.

    Raises:
        UserError: it means none or several, or nobody may look.
    """
    try:
        if (path := expand(name)).exists():
            return path
    except OSError as error:
        raise _unreadable(name, error) from error
    within = {top: _runs(top) for top in folders_in(runs)}
    found = [run for part in within.values() for run in part]
    if sweeps:
        found = [top for top in within if within[top] or os.path.isfile(top / PLANNED)]  # noqa: PTH113 as below
    begun = {folder: _begun(folder, within.get(folder, [folder])) for folder in found}
    newest_first = sorted(found, key=lambda folder: (begun[folder], folder), reverse=True)
    if str(name) == "latest" and newest_first:
        return newest_first[0]
    names = {folder: {folder.name, str(folder.relative_to(runs))} for folder in newest_first}
    same = [folder for folder in names if str(name) in names[folder]]
    meant = same or [folder for folder in names if any(each.startswith(str(name)) for each in names[folder])]
    if len(meant) == 1:
        return meant[0]
    listed = [printable(str(folder.relative_to(runs))) for folder in (meant or newest_first)]
    shown = f"{', '.join(listed[:_NAMED])}{', …' * (len(listed) > _NAMED)}" if listed else "no run"
    raise UserError(
        f"the beginning of a name must be that of one run, but {name} is that of {len(meant)}: give more of {shown}"
        if meant
        else f"a run must be a path, latest, or the beginning of one run's name, but {name} does not exist, and {runs} "
        f"has {shown}",
        exit_code=2,
    )


def is_run(folder: Path) -> bool:
    return os.path.isfile(folder / CONFIG)  # noqa: PTH113 Path's raises an error where nobody may look


def _runs(folder: Path) -> list[Path]:
    """The run that ``folder`` is, or those in it."""
    if is_run(folder):
        return [folder]
    try:
        return [*filter(is_run, folders_in(folder))]
    except UserError:
        # another's, perhaps
        return []


def folders_in(folder: Path) -> list[Path]:
    """The folders in ``folder``; none where it is not there. Raises UserError where nobody may look."""
    try:
        return [child for child in folder.iterdir() if child.is_dir()] if folder.is_dir() else []
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(path: str | Path, error: OSError) -> UserError:
    return UserError(
        f"a run must be a file or folder that may be read, but {path} is not ({error.strerror}): give access there"
    )


def _begun(folder: Path, runs: list[Path]) -> float:
    """When the last of the ``runs`` in ``folder`` was begun, or it was planned to do so."""
    return max(path.stat().st_mtime for path in [run / CONFIG for run in runs] or [folder / PLANNED])


def short_name(folder: Path) -> str:
    """The shortest text that the commands take for the run in ``folder``: its time, more of its name, or its path."""
    if folder.parent.resolve() != RUNS.resolve():
        # each of a sweep's jobs would look at all the others
        return str(relative(folder))
    ends = [at for at, sign in enumerate(folder.name) if sign == "_" and at >= len("2026-11-25_14-03-07")]
    for name in (folder.name[:end] for end in (*ends, None)):
        try:
            if find_run(name).resolve() == folder.resolve():
                return name
        except UserError:
            continue
    return str(relative(folder))


def find_checkpoint(name: str | Path) -> Path:
    """The checkpoint file at ``name``: itself, or the best one of the run that :func:`find_run` finds.

    Raises:
        UserError: there is none, or nobody may look.
    """
    path = find_run(name)
    try:
        found = path / BEST if path.is_dir() else path
        if found.is_file():
            return found
    except OSError as error:
        raise _unreadable(path, error) from error
    raise UserError(
        f"a checkpoint must be a file, or a run folder that holds {BEST}, but {found} does not exist: name a run that "
        "finished an epoch",
        exit_code=2,
    )
