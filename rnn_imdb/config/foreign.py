"""What a configuration that came with a file may ask for. Somebody else may have written it. Imports nothing heavy.

It runs no code and writes nowhere but in its own folder. The command line and ``conf/`` are the user's own, and free.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnn_imdb.common.errors import UserError, is_address
from rnn_imdb.config.schema import PARTS, is_folder_name

# callbacks of this project by the names of earlier versions, with the name that they have now
RENAMED = {
    f"rnn_imdb.callbacks.{earlier}": f"rnn_imdb.insight.callbacks.{earlier.partition('.')[2]}"
    for earlier in ("forgetting.ForgettingCurve", "quality.Quality", "states.StateHealth", "word_map.WordMap")
}
_OF_LIGHTNING = (
    *("ModelCheckpoint", "EarlyStopping", "LearningRateMonitor", "DeviceStatsMonitor"),
    *("EMAWeightAveraging", "WeightAveraging"),
)
# the classes that a file may name: none writes a file by an argument's name, runs code or asks a server
ALLOWED = {
    "callbacks": (*(f"lightning.pytorch.callbacks.{name}" for name in _OF_LIGHTNING), *RENAMED.values()),
    "logger": tuple(f"lightning.pytorch.loggers.{name}" for name in ("TensorBoardLogger", "CSVLogger")),
    "trainer": (),
}
# relative to the working directory, so that no value is inside the run folder
_FOLDERS = ("dirpath", "save_dir")
# a number as a sign in the name of a checkpoint: the 46th is a dot, the 47th a slash
_SIGN = re.compile(r"\{[^}]*:[^}]*c\}")
# an axis of a sweep file: a group of the project's or an option in it, and no key of Hydra's as _target_
_AXIS = re.compile(r"\+{0,2}(data|model|optimizer|trainer|callbacks|logger|experiment|seed|test)(\.[a-zA-Z]\w*)*")
_OF_THE_MACHINE = ("data.root", "data.cache_dir")


def with_current_names(callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """The group ``callbacks`` of a saved configuration, with each class by the name that it has now."""
    return {
        name: {**entry, "_target_": RENAMED.get(str(entry["_target_"]), entry["_target_"])}
        if isinstance(entry, Mapping) and "_target_" in entry
        else entry
        for name, entry in callbacks.items()
    }


def check_plain(value: Any, key: str = "") -> None:
    """Refuse an interpolation, which would read the environment, anywhere in a saved configuration.

    Raises:
        UserError: there is one.
    """
    if isinstance(value, (Mapping, list)):
        for name, child in value.items() if isinstance(value, Mapping) else enumerate(value):
            check_plain(child, f"{key}.{name}" if key else str(name))
    elif isinstance(value, str) and "${" in value:
        raise UserError(f"a saved configuration holds plain values, but {key} is {value!r}: write the value itself")


def check_objects(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse what a saved configuration may not make, or where its objects may not write.

    Args:
        saved: the configuration, as plain dictionaries.
        own: that of the command line and ``conf/``; what stands there too is the user's own wish.

    Raises:
        UserError: a value that the user must give himself.
    """
    for group, made in ALLOWED.items():
        for name, entry in (saved[group] or {}).items():
            _check_object(entry, (own[group] or {}).get(name), f"{group}.{name}", made)


def _check_object(value: Any, own: Any, key: str, made: tuple[str, ...] = ()) -> None:
    if value is None or value == own:
        return
    if isinstance(value, Mapping):
        for name, child in value.items():
            given = own.get(name) if isinstance(own, Mapping) else None
            # Hydra's own keys begin so; what is made must stand at the top
            if str(name).startswith("_") and child != given and not (name == "_target_" and child in made):
                rule = "a saved configuration makes only callbacks and loggers of Lightning and of this project"
                remedy = "give it on the command line if you know what it does"
                raise UserError(f"{rule}, but {key}.{name} is {child!r}: {remedy}", exit_code=2)
            _check_object(child, given, f"{key}.{name}")
    elif isinstance(value, list):
        for child in value:
            _check_object(child, None, key)
    elif isinstance(value, str) and (key.endswith(_FOLDERS) or leads_elsewhere(value)):
        rule = "what a saved configuration writes stays in its run folder"
        remedy = "give it on the command line if you mean that place"
        raise UserError(f"{rule}, but {key} is {value!r}: {remedy}", exit_code=2)


def leads_elsewhere(path: str) -> bool:
    """Whether ``path`` may lead out of the folder that it is joined to, or to another machine."""
    above = path.startswith(("/", "~")) or ".." in Path(path).parts
    return above or any(sign in path for sign in ("$", "://", "\0")) or _SIGN.search(path) is not None


def check_sweep(name: Any, axes: Mapping[Any, Any]) -> None:
    """Refuse a sweep file whose name is no folder's, or whose axes are not values of the project's own options.

    Raises:
        UserError: the first that is none.
    """
    if not (isinstance(name, str) and is_folder_name(name) and re.fullmatch(r"[\w.+ -]+", name)):
        raise UserError(f"name must be a folder's, of letters, digits and . _ + -, got {name!r}")
    for key, values in axes.items():
        if not (isinstance(key, str) and _AXIS.fullmatch(key)) or key.lstrip("+") in _OF_THE_MACHINE:
            raise UserError(
                f"its axes are options of model, data and training, got {key!r}: give that on the command line"
            )
        items = re.split(r"[\s,()\[\]'\"]+", str(values))
        own = key.lstrip("+") in PARTS and any(map(is_address, items))
        if own or "{" in str(values) or "\\" in str(values) or any(map(leads_elsewhere, items)):
            raise UserError(f"its values are names and numbers, got {key}={values}: give that on the command line")
