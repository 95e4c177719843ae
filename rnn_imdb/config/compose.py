"""Configurations made known to Hydra, restored from a run, and checked. Imports nothing heavy."""

import difflib
import math
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import UserError
from rnn_imdb.config.foreign import check_plain, with_current_names
from rnn_imdb.config.lightning_options import NOT_PASSED_ON, PASSED_ON, check_checkpoints, check_effects
from rnn_imdb.config.schema import SCHEMAS, DataConfig, TrainConfig, TrainerConfig, option_names, without_removed
from rnn_imdb.data.sources import make_source


def restore(saved: dict[str, Any]) -> DictConfig:
    """A configuration of ``train`` from the plain values that a run keeps in ``config.yaml``, with its types.

    Raises:
        KeyError, OmegaConfBaseException: a group or option is missing, unknown or of another type.
        UserError: a value is an interpolation.
    """
    check_plain(saved)
    restored: Any = OmegaConf.structured(TrainConfig)
    optimizer: str = saved["optimizer"]["name"]
    groups = {name: name for name in ("data", "model", "trainer", "sweep")}
    groups["optimizer"] = "adam" if optimizer == "adamw" else optimizer
    for name, value in without_removed(saved).items():
        if name in groups:
            node = OmegaConf.structured(SCHEMAS[groups[name]])
            # beyond the schema stand what was passed on to Lightning, and the axes of a sweep
            OmegaConf.set_struct(node, name not in ("trainer", "sweep"))
            restored[name] = OmegaConf.merge(node, value)
        elif name == "callbacks":
            restored[name] = with_current_names(value)
        else:
            restored[name] = value
    return restored


def register() -> None:
    """Make the schemas known to Hydra, as ``schema/NAME``."""
    for name, schema in SCHEMAS.items():
        ConfigStore.instance().store(group="schema", name=name, node=schema)


def conf_folder() -> Path:
    """The folder of YAML files, which a checkout has beside the package, with a link inside it."""
    return (Path(__file__).parents[1] / "conf").resolve()


def check(config: DictConfig, *, saved: bool = False) -> None:
    """Test every value of a composed configuration against its rule, and those that concern each other.

    A ``saved`` configuration, one that a run keeps, may have options without effect: earlier versions took them.

    Raises:
        UserError: the first value that breaks its rule, with all the key's rule says.
    """
    check_values(config)
    if "data" in config and None not in (config.data.first_words, config.data.last_words):
        raise UserError(
            "data.first_words must be null where data.last_words is given, got "
            f"{config.data.first_words} and {config.data.last_words}: give one of them",
            exit_code=2,
        )
    # a run that goes on has data of its own, so an option of these may stand beside the default source
    named = config.get("resume") not in (None, "auto")
    if "data" in config and OmegaConf.get_type(config.data) is DataConfig and not named:
        # it refuses what it cannot use, and reads nothing yet
        make_source(config.data.source, root=config.data.root, reviews_per_class=config.data.reviews_per_class)
    if "callbacks" in config:
        check_checkpoints(config.callbacks)
    if not saved:
        check_effects(config)


def check_values(node: DictConfig, prefix: str = "") -> None:
    """Test each value below ``node`` against its rule alone.

    Raises:
        UserError: as of :func:`check`.
    """
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        # a part of a configuration, whose groups have their types
        for name in node:
            if not OmegaConf.is_missing(node, name) and isinstance(node[name], DictConfig):
                check_values(node[name], f"{prefix}{name}.")
        return
    known = {item.name: item for item in fields(schema)}
    for name in node:
        key = f"{prefix}{name}"
        if name not in known:
            # Lightning checks itself what is passed on
            if schema is TrainerConfig and name in PASSED_ON:
                continue
            raise UserError(unknown_key(key, list(known)), exit_code=2)
        if OmegaConf.is_missing(node, name):
            raise UserError(f"{key} must be given: add {key}=VALUE", exit_code=2)
        value = node[name]
        if isinstance(value, DictConfig):
            check_values(value, f"{key}.")
        metadata = known[str(name)].metadata
        rule = metadata.get("rule")
        if value is None and metadata.get("null"):
            continue
        if rule is not None and not (_is_finite(value) and rule.holds(value)):
            raise UserError(f"{key} must be {rule.text}, got {value!r}", exit_code=2)


def _is_finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


# what others call an option
_SYNONYMS = {
    **dict.fromkeys(("lr",), "optimizer.learning_rate"),
    **dict.fromkeys(("wd", "l2"), "optimizer.weight_decay"),
    **dict.fromkeys(("epoch", "epochs", "num_epochs", "n_epochs"), "trainer.max_epochs"),
    **dict.fromkeys(("hidden_dim", "hidden_size", "units"), "model.state_dim"),
    **dict.fromkeys(("embed_dim", "embedding_size"), "model.embedding_dim"),
    **dict.fromkeys(("vocab_size", "max_features"), "data.vocabulary_size"),
    **dict.fromkeys(("max_len", "max_length", "maxlen"), "data.sequence_length"),
    **dict.fromkeys(("grad_clip", "clip"), "trainer.gradient_clip_val"),
    "patience": "callbacks.early_stopping.patience",
}
_GROUPS = {
    "data": ("data",),
    "model": ("model",),
    "optimizer": ("rmsprop", "adam", "sgd"),
    "trainer": ("trainer",),
    "sweep": ("sweep",),
}


def unknown_key(key: str, valid: list[str], top: Sequence[str] = ()) -> str:
    """The text of an error about a key that does not exist, or that only Lightning's Trainer knows.

    Args:
        key: what was given.
        valid: the names where it was looked for.
        top: the names at the top of the configuration; default: those of ``train``.
    """
    prefix, _, name = key.rpartition(".")
    if prefix == "trainer" and name in NOT_PASSED_ON:
        return f"{key} cannot be given: {NOT_PASSED_ON[name]}"
    if prefix == "trainer" and name in PASSED_ON:
        return f"{key} is an argument of Lightning's Trainer, which takes a plus sign: +{key}=VALUE"
    where = f"{prefix} has" if prefix else "there are"
    near = difflib.get_close_matches(name, valid, n=1)
    groups = (top or option_names(TrainConfig)) if prefix else valid
    near = [f"{prefix}.{each}" if prefix else each for each in near]
    # another file of the group may have the option itself
    found = [each for each in _elsewhere(name, groups, near) if each != key]
    hint = f"; did you mean {' or '.join(found[:3])}?" if found else ""
    return f"there is no option {key}: {where} {', '.join(valid)}{hint}"


def _elsewhere(name: str, groups: Sequence[str], near: list[str]) -> list[str]:
    """Options that ``name`` may stand for: of that name, else what others call so, else ``near``, else alike."""
    schemas = _GROUPS | ({"data": ("evaluation_data",)} if "checkpoint" in groups else {})
    options = {group: group for group in groups} | {
        f"{group}.{option}": option
        for group in groups
        for schema in schemas.get(group, ())
        for option in option_names(SCHEMAS[schema])
    }
    # an option of a callback, whose names are the user's, is known by its group
    synonym = _SYNONYMS.get(name, "")
    known = synonym in options or (synonym.startswith("callbacks.") and "callbacks" in groups)
    return (
        [key for key, option in options.items() if option == name]
        or ([synonym] if known else [])
        or near
        or [key for key, option in options.items() if name in option.split("_")]
        or [key for key, option in options.items() if option in difflib.get_close_matches(name, options.values(), n=1)]
    )
