"""What makes two runs the same (the options that decide a result, and the reviews), and what a run's folder is called.

Imports nothing heavy.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.files import LOCK
from rnn_imdb.common.runs import RUNS
from rnn_imdb.config.foreign import RENAMED
from rnn_imdb.config.schema import REMOVED, later_options
from rnn_imdb.data.sources import make_source

# what names a run or the way to it, or only shows it
NO_PART = ("resume", "sweep", "hydra", "logger")
# where things lie, and what is shown while they are computed: the reviews count, not the way to them
WITHOUT_EFFECT = ("data.root", "data.cache_dir", "trainer.enable_progress_bar", "trainer.log_every_n_steps")
# the one option in which a run may grow
EPOCHS = "trainer.max_epochs"
_LIGHTNING = r"lightning\.pytorch\.callbacks\."
# callbacks that only observe: they change no weight and no figure
_OBSERVERS = re.compile(rf"rnn_imdb\.insight\..+|{_LIGHTNING}(LearningRateMonitor|DeviceStatsMonitor)")


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """The values in nested dictionaries or configurations, by dotted keys."""
    node = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(node, Mapping):
        return {prefix[:-1]: node}
    return {key: value for name, child in node.items() for key, value in flat(child, f"{prefix}{name}.").items()}


def options(config: Mapping[Any, Any]) -> dict[str, Any]:
    """The options that decide a result, by dotted keys; runs on the same reviews that share them are the same run.

    Args:
        config: a configuration of ``train``: composed, as ``config.yaml`` holds it, or by dotted keys already.
    """
    # Hydra's part holds the name of a job's folder, which asks for these
    given = flat({name: part for name, part in config.items() if name.partition(".")[0] not in NO_PART})
    # runs of earlier versions do not name what came later, and name what is gone
    found = given | {key: value for key, value in flat(later_options()).items() if key not in given}
    gone = flat(REMOVED)
    classes = {key: _address(value) for key, value in found.items() if key.endswith("._target_")}
    return {
        key: value
        for key, value in (found | classes).items()
        if key not in WITHOUT_EFFECT and gone.get(key, ...) != value and not _is_off(key, value, classes)
    }


def _address(target: Any) -> str:
    """The name that a class has now, and of Lightning's two names of a callback the shorter one."""
    return re.sub(rf"^({_LIGHTNING})\w+\.(\w+)$", r"\1\2", RENAMED.get(str(target), str(target)))


def _is_off(key: str, value: Any, classes: Mapping[str, str]) -> bool:
    """Whether an option is null where that means off, or belongs to a callback that only observes."""
    group, *names = key.split(".")
    if group == "callbacks":
        observed = names and only_observes(classes.get(f"callbacks.{names[0]}._target_"))
        return bool(observed) or (value is None and len(names) < 2)
    return group == "trainer" and value is None


def only_observes(target: Any) -> bool:
    """Whether a callback of the class ``target`` changes no result."""
    return _OBSERVERS.fullmatch(_address(target)) is not None


def reviews(config: DictConfig) -> str:
    """16 hex digits that tell the reviews of a configuration from others, wherever they lie.

    Raises:
        UserError: they cannot be read.
    """
    return short(make_source(config.data).fingerprint())


def short(text: str) -> str:
    """16 hex digits for a text, as the fingerprint of a source."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def digest(config: Mapping[Any, Any], of_reviews: str | None) -> str:
    """8 hex digits that two configurations share only if they are the same run."""
    later = flat(later_options())
    # an option that comes later leaves the digests of before as they are
    named = {key: value for key, value in options(config).items() if later.get(key, ...) != value}
    return short(json.dumps([named, of_reviews], sort_keys=True, default=str))[:8]


def run_folder(overrides: Sequence[str]) -> str:
    """As ``experiments/runs/2026-11-25_14-03-07_readout-all_seed-1``."""
    values = {key.lstrip("+~"): value or "off" for key, _, value in (text.partition("=") for text in overrides)}
    changed = [key for key in values if key.partition(".")[0] not in NO_PART and key not in WITHOUT_EFFECT]
    last = [key.rpartition(".")[2] for key in changed]
    names = {key: name if last.count(name) == 1 else key for key, name in zip(changed, last, strict=True)}
    plain = {key: re.sub(r"[^\w.+-]+", "-", values[key].strip("[]{}()'\"")) for key in changed}
    words = [f"{name.replace('/', '-')}-{plain[key]}" for key, name in names.items()]
    return str(RUNS / "_".join([time.strftime("%Y-%m-%d_%H-%M-%S"), *words])[:80])


def claimed(folder: Path) -> Path:
    """``folder``, or with a number behind its name where it is that of another run of this second and these options."""
    path, number = folder, 1
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            # of several processes, one makes it
            (path / LOCK).touch(exist_ok=False)
            return path
        except FileExistsError:
            number += 1
            path = folder.with_name(f"{folder.name}_{number}")
