"""The command line of a sweep before Hydra reads it."""

from pathlib import Path
from typing import Any

from rnn_imdb.common.console import one_line
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import expand, read_yaml
from rnn_imdb.config.command_line import is_sweep, readable, reads_overrides, split
from rnn_imdb.config.compose import conf_folder
from rnn_imdb.config.foreign import check_sweep
from rnn_imdb.sweeps.results import format_value


def prepare(arguments: list[str]) -> list[str]:
    """Add what a sweep needs to its command line; in others, only put the overrides last.

    The axes of ``sweep=NAME`` come from ``conf/sweep/NAME.yaml``, those of ``sweep=FILE.yaml`` from that file; an axis
    on the command line replaces the file's.

    Raises:
        UserError: the file cannot be read, or has no name or axes.
    """
    flags, overrides = split(arguments)
    if not reads_overrides(flags):
        return arguments
    chosen = [override.partition("=")[2].strip("'\"") for override in overrides if override.startswith("sweep=")]
    file = conf_folder() / "sweep" / f"{chosen[-1]}.yaml" if chosen else None
    if chosen and chosen[-1].endswith((".yaml", ".yml")):
        file = expand(chosen[-1])
        others = [override for override in overrides if not override.startswith("sweep=")]
        overrides = [f"sweep.name={_read(file)['name']}", *others]
    if file is not None and file.is_file():
        axes = _read(file)["axes"]
        given = {override.lstrip("+~").partition("=")[0] for override in overrides}
        overrides += [f"{key}={_values(value)}" for key, value in axes.items() if key.lstrip("+") not in given]
        if axes and not is_sweep(flags, overrides):
            flags.append("--multirun")
    return [*flags, *readable(overrides, several=is_sweep(flags, overrides))]


def _read(file: Path) -> dict[str, Any]:
    """The name and the axes in a sweep's file."""
    try:
        content = read_yaml(file)
        found = {"name": content["name"], "axes": dict(content["axes"])}
        # those in conf/ are the user's own
        if conf_folder() not in file.parents:
            check_sweep(**found)
        return found
    except (OSError, KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"sweep={file} must be a YAML file with a name and axes, as conf/sweep/capacity.yaml is, but it cannot "
            f"be used: {one_line(str(error), 200)}",
            exit_code=2,
        ) from error


def _values(values: Any) -> str:
    """The values of an axis as one would type them; a list in a file has one value an entry."""
    return ",".join(map(format_value, values)) if isinstance(values, list) else format_value(values)
