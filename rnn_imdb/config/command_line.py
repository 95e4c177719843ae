"""The command line before Hydra reads it: values as they stand, and refusals in plain words. Imports nothing heavy."""

import functools
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import CONFIG

# options that name a file or folder: what stands there is a text, whatever it looks like
PATHS = ("data.root", "data.cache_dir", "checkpoint", "resume", "output", "hydra.run.dir", "hydra.sweep.dir")
# between commas, but for those in quotes and brackets
_VALUES = re.compile(r"""(?:'[^']*'|"[^"]*"|\([^)]*\)|\[[^]]*\]|\{[^}]*\}|[^,])+""")
# the whole value in one pair of brackets, closed or not
_CONTAINER = re.compile(r"[\[{][^]}]*[]}]?")
_parser = OverridesParser.create()


def prepare(arguments: list[str], *, bare: str | None = None) -> list[str]:
    """What the user typed as Hydra can read it: flags, then overrides.

    Args:
        bare: the option that a path without ``KEY=`` is meant for.

    Raises:
        UserError: an argument is neither.
    """
    flags, overrides = split(arguments)
    if not reads_overrides(flags):
        return arguments
    paths = [text for text in overrides if bare and ("=" not in text or Path(text).exists())]
    if len(paths) > 1:
        raise UserError(f"one {bare} at a time, got {' '.join(paths)}", exit_code=2)
    overrides = [f"{bare}={text}" if text in paths else text for text in overrides]
    return [*flags, *readable(overrides, several=is_sweep(flags, overrides))]


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The flags of Hydra with their values, and the overrides, which Hydra takes only in one piece.

    Raises:
        UserError: there is no such flag, or it lacks its value.
    """
    parser = get_args_parser()
    parser.allow_abbrev = False
    # argparse would end the process with its usage
    parser.error = _refuse_flag
    found = parser.parse_intermixed_args(arguments)
    if found.experimental_rerun is not None:
        _refuse_flag("--experimental-rerun would run what code a file holds")
    if found.package is not None and found.cfg is None:
        _refuse_flag("--package goes with --cfg, which prints that part")
    if found.config_path is not None and Path(found.config_path, CONFIG).is_file():
        _refuse_flag(
            f"{found.config_path} is a run, whose file may name any code: resume={found.config_path} continues it"
        )
    left = list(found.overrides)
    overrides, flags = [], []
    for argument in reversed(arguments):
        # from the end: the value of a flag stands before what follows it
        taken = bool(left) and left[-1] == argument
        (overrides if taken else flags).insert(0, left.pop() if taken else argument)
    return [flag for flag in flags if flag != "--"], overrides


def _refuse_flag(message: str) -> NoReturn:
    raise UserError(f"{message}: options are KEY=VALUE, and flags stand in --help and --hydra-help", exit_code=2)


def reads_overrides(flags: list[str]) -> bool:
    """Whether overrides are those of a configuration: shell completion has words of its own."""
    return not {"-sc", "--shell-completion"} & set(flags)


def is_sweep(flags: list[str], overrides: list[str]) -> bool:
    """Whether Hydra is asked for several jobs."""
    return bool({"-m", "--multirun"} & set(flags)) or "hydra.mode=MULTIRUN" in overrides


# a sweep reads the same ones for each job, at 1 ms each
_parse_override = functools.cache(_parser.parse_override)


def parsed(overrides: Iterable[str]) -> list[Override]:
    """What Hydra reads in overrides that are :func:`readable`."""
    return [_parse_override(text) for text in overrides]


def readable(overrides: list[str], *, several: bool) -> list[str]:
    """``overrides`` with quotes around the values that Hydra's grammar cannot read, or would not read as a path.

    Args:
        several: whether an option may have several values.

    Raises:
        UserError: an override is not ``KEY=VALUE``, ``+KEY=VALUE`` or ``~KEY``, or has several values in vain.
    """
    return [_readable(text, several) for text in overrides]


def _readable(text: str, several: bool) -> str:
    key, equals, value = text.partition("=")
    is_key = _parse(f"{key}=0") is not None and key.strip("+~")
    if not is_key or not (equals or key.startswith("~")):
        hint = f"resume={text} continues a run" if Path(text).exists() else "put a value with blanks into quotes"
        raise UserError(
            f"an option is KEY=VALUE, whose key is letters, digits and . _ / @, got {text!r}: {hint}, and see --help",
            exit_code=2,
        )
    if not equals:
        return text
    if key.lstrip("+") in PATHS:
        return f"{key}={_path(text, several)}"
    if _parse(text) is None:
        values = _VALUES.findall(value) if several and "" not in value.split(",") else [value]
        text = f"{key}={','.join(_value(key, item) for item in values)}"
    found = _parse(text)
    if found is not None and found.is_sweep_override() and not several:
        raise UserError(
            f"several values need a sweep, got {text!r}: add -m to run with each, or write a list as [1,2]", exit_code=2
        )
    return text


def _value(key: str, text: str) -> str:
    """One value as Hydra reads it."""
    if _parse(f"{key}={text}") is not None:
        return text
    if _CONTAINER.fullmatch(text):
        raise UserError(
            f"a list is [1,2] and a dictionary {{a:1,b:2}}, got {key}={text}: put what holds other signs into quotes",
            exit_code=2,
        )
    return _quoted(text.strip())


def _path(text: str, several: bool) -> str:
    """The value of ``text`` as a path that Hydra reads. One in quotes or with backslashes was written for Hydra."""
    path = text.partition("=")[2]
    found = _parse(text)
    if found is not None:
        value = found._value
        # but for Windows, where they part folders
        escaped = isinstance(value, str) and "\\" in path and os.sep == "/"
        for_hydra = isinstance(value, QuotedString) or escaped
        if value is None or for_hydra or (several and found.is_sweep_override()):
            return path
    items = _VALUES.findall(path) if several else [path]
    # Path's raises an error where there is no such home
    return ",".join(_quoted(os.path.expanduser(item)) for item in items)  # noqa: PTH111


def pasted(key: str, path: Path) -> str:
    """``KEY=PATH`` for a shell, which hands it to :func:`prepare`."""
    (override,) = parsed(readable([f"{key}={path}"], several=False))
    # a name that looks quoted already
    value = path if override.value() == str(path) else _quoted(str(path))
    return shlex.quote(f"{key}={value}")


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _parse(text: str) -> Override | None:
    """What Hydra reads in an override; None where it reads nothing."""
    try:
        return _parser.parse_override(text)
    except HydraException:
        return None
