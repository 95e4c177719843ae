"""Every rule that a whole configuration must keep. Imports nothing heavy."""

import functools
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import UserError, allow
from rnn_imdb.config.explain import unknown_key
from rnn_imdb.config.lightning_options import PASSED_ON
from rnn_imdb.config.schema import PARTS, DataConfig, Rule, TrainerConfig, conf_folder
from rnn_imdb.data.sources import make_source

# the two checkpoints of a run, and what may be chosen about them
_CHECKPOINTS = {"best_checkpoint": ("monitor", "mode"), "last_checkpoint": ()}
_OF_RNN = Rule("model.encoder=rnn", lambda config: config.model.encoder == "rnn")
# options that have an effect only beside others
EFFECTS = {
    **{f"model.{name}": _OF_RNN for name in ("readout", "bidirectional", "recurrent", "activation", "bias", "scan")},
    "model.spectral_radius": Rule(
        "model.encoder=rnn and model.recurrent=true", lambda config: _OF_RNN.holds(config) and config.model.recurrent
    ),
    "model.kernel_size": Rule("model.encoder=conv", lambda config: config.model.encoder == "conv"),
    "optimizer.target_replication": Rule(
        "model.readout=last and model.bidirectional=false",
        lambda config: _OF_RNN.holds(config) and config.model.readout == "last" and not config.model.bidirectional,
    ),
    "optimizer.nesterov": Rule("optimizer.momentum above 0", lambda config: config.optimizer.momentum > 0),
    "trainer.gradient_clip_algorithm": Rule(
        "trainer.gradient_clip_val", lambda config: config.trainer.gradient_clip_val is not None
    ),
}


def check(config: DictConfig, *, saved: bool = False) -> None:
    """Test every value of a composed configuration against its rule, and those that concern each other.

    A ``saved`` configuration, one that a run keeps, may have options without effect: earlier versions took them. Any
    other is the user's own, and its classes outside of the package may be imported.

    Raises:
        UserError: the first value that breaks its rule, with all the key's rule says.
    """
    if not saved:
        allow(*config.get("classes", ()), *(OmegaConf.select(config, key) for key in PARTS))
    check_values(config)
    if "data" in config:
        _check_data(config)
    if "callbacks" in config:
        _check_checkpoints(config.callbacks)
    if not saved:
        _check_effects(config)


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
    known = {item.name: item.metadata for item in fields(schema)}
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
        rule = known[str(name)].get("rule")
        if rule is None or (value is None and known[str(name)].get("null")):
            continue
        if (isinstance(value, float) and not math.isfinite(value)) or not rule.holds(value):
            raise UserError(f"{key} must be {rule.text}, got {value!r}", exit_code=2)


def _check_data(config: DictConfig) -> None:
    data = config.data
    if None not in (data.first_words, data.last_words):
        got = f"{data.first_words} and {data.last_words}"
        raise UserError(f"data.first_words must be null beside data.last_words, got {got}: give one", exit_code=2)
    # a run that goes on has data of its own, so an option of these may stand beside the default source
    if OmegaConf.get_type(data) is DataConfig and config.get("resume") in (None, "auto"):
        # it refuses what it cannot use, and reads nothing yet
        make_source(data)


def _check_checkpoints(callbacks: Mapping[str, Any]) -> None:
    """Make sure that a run will end with ``best.ckpt`` and ``last.ckpt``, whatever is called best."""
    for name, free in _CHECKPOINTS.items():
        file = name.removesuffix("_checkpoint")
        target = "lightning.pytorch.callbacks.ModelCheckpoint"
        fixed = {"_target_": target, "filename": file, "enable_version_counter": False}
        found = {option: value for option, value in (callbacks.get(name) or {}).items() if option not in free}
        changed = [option for option in (fixed | found) if found.get(option, ...) != fixed.get(option, ...)]
        if changed:
            got = f"{changed[0]}={found[changed[0]]}" if changed[0] in found else f"no {changed[0]}"
            remedy = f"only {' and '.join(free)} can be chosen" if free else "leave it as it is"
            raise UserError(
                f"callbacks.{name} must write checkpoints/{file}.ckpt at the end of an epoch, got {got}: {remedy}; "
                f"+callbacks.NAME._target_={target} adds further checkpoints",
                exit_code=2,
            )


def _check_effects(config: DictConfig) -> None:
    """Refuse an option that was given and has no effect; what a sweep goes over may have one in its other jobs."""
    swept = config.sweep.swept if "sweep" in config else ()
    for key, needed in EFFECTS.items():
        default = OmegaConf.select(_defaults(), key)
        value = OmegaConf.select(config, key, default=default)
        if value != default and key not in swept and not needed.holds(config):
            raise UserError(f"{key} has an effect only with {needed.text}, got {value}: leave it out", exit_code=2)


@functools.cache
def _defaults() -> DictConfig:
    """The values that ``conf/`` gives the options in :data:`EFFECTS`."""
    files = {"model": "rnn.yaml", "optimizer": "sgd.yaml", "trainer": "default.yaml"}
    return OmegaConf.create({group: OmegaConf.load(conf_folder() / group / file) for group, file in files.items()})
