"""Where configurations come from: the files in ``conf/``, or what a run kept. Imports nothing heavy."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import is_address
from rnn_imdb.config.checks import check
from rnn_imdb.config.command_line import readable
from rnn_imdb.config.foreign import check_plain, with_current_names
from rnn_imdb.config.identity import run_folder
from rnn_imdb.config.schema import REMOVED, SCHEMAS, TrainConfig, conf_folder

# cached, so that the time stays
_run_folder = cache(run_folder)


def _run_folder_of(*, _root_: DictConfig) -> str:
    """The run's folder by the overrides as they were typed, whatever references they hold."""
    overrides: Any = OmegaConf.to_container(_root_.hydra.overrides, resolve=False)
    return _run_folder(tuple(overrides["task"]))


# on import, for every process
OmegaConf.register_new_resolver("run_folder", _run_folder_of, replace=True)


def conf_root(command: str) -> Path:
    """The folder in which Hydra finds the configuration of ``command``: evaluation has data groups of its own."""
    folder = conf_folder() / command
    return folder if folder.is_dir() else conf_folder()


def register() -> None:
    """Make the schemas known to Hydra, as ``schema/NAME``."""
    for name, schema in SCHEMAS.items():
        ConfigStore.instance().store(group="schema", name=name, node=schema)


def compose(command: str, overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of ``command`` with what one would type, for use from Python.

    Raises:
        UserError: a value breaks its rule.

    >>> compose("train", ["model.readout=all"]).model.readout
    'all'
    """
    register()
    # also within a program that runs under Hydra itself, as the benchmark does
    outer, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
    try:
        with initialize_config_dir(str(conf_root(command)), version_base="1.3"):
            composed = hydra_compose(command, overrides=readable(list(overrides), several=False))
    finally:
        GlobalHydra.instance().hydra = outer
    check(composed)
    return composed


def restore(saved: dict[str, Any]) -> DictConfig:
    """A configuration of ``train`` from the plain values that a run keeps in ``config.yaml``, with its types.

    Raises:
        KeyError, OmegaConfBaseException: a group or option is missing, unknown or of another type.
        UserError: a value is an interpolation.
    """
    check_plain(saved)
    restored: Any = OmegaConf.structured(TrainConfig)
    groups = {name: name for name in ("data", "model", "trainer", "sweep")}
    optimizer: str = saved["optimizer"]["name"]
    groups["optimizer"] = {"adamw": "adam"}.get(optimizer, "own" if is_address(optimizer) else optimizer)
    for name, value in saved.items():
        if name in groups:
            node = OmegaConf.structured(SCHEMAS[groups[name]])
            # beyond the schema stand what was passed on to Lightning or a class, and the axes of a sweep
            OmegaConf.set_struct(node, name not in ("trainer", "sweep") and "options" not in value)
            gone = REMOVED.get(name, {})
            known = {key: item for key, item in value.items() if gone.get(key, ...) != item} if gone else value
            restored[name] = OmegaConf.merge(node, known)
        else:
            restored[name] = with_current_names(value) if name == "callbacks" else value
    return restored
