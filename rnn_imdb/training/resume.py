"""Which run to continue, and with which configuration: its own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import CONFIG, GROWING, LAST, expand, is_held, read_yaml
from rnn_imdb.common.processes import is_leader
from rnn_imdb.common.runs import find_run, folders_in
from rnn_imdb.config.checks import check
from rnn_imdb.config.compose import restore
from rnn_imdb.config.foreign import check_objects
from rnn_imdb.config.identity import EPOCHS, WITHOUT_EFFECT, only_observes, options, reviews
from rnn_imdb.training.outcome import finished, recorded_reviews


def find(config: DictConfig, runs: Path) -> Path | None:
    """The folder in ``runs`` that ``config.resume`` means; with ``auto``, None where none fits."""
    if config.resume != "auto":
        return find_run(config.resume, runs)
    found = newest_unfinished(runs, config)
    print(f"resuming {found}" if found else f"no unfinished run of this configuration in {runs}: starting a new one")
    return found


def newest_unfinished(runs: Path, composed: DictConfig) -> Path | None:
    """The newest unfinished run below ``runs`` of this configuration, on its reviews, that no process works on.

    Raises:
        UserError: the reviews cannot be read, or ``runs`` may not be looked into.
    """
    wanted = options(composed)
    for folder in sorted(folders_in(runs), reverse=True):
        try:
            found = unfinished(folder)
            # the other processes of a distributed training find it held by their own first
            if found is None or options(found) != wanted or (is_leader() and is_held(folder)):
                continue
        except (UserError, OSError):
            # it has no configuration, a damaged one, or one that may not be read
            continue
        recorded = recorded_reviews(folder)
        if recorded is None or recorded == reviews(composed):
            return folder
    return None


def read_config(folder: Path) -> DictConfig:
    """The configuration that a run was started with.

    Raises:
        UserError: ``folder`` is no run folder, or its configuration is damaged.
    """
    path = folder / CONFIG
    rule = "resume must name a run folder, with the config.yaml of its start"
    try:
        restored = restore(read_yaml(path))
        check(restored, saved=True)
        return restored
    except FileNotFoundError as error:
        raise UserError(f"{rule}, got {folder}: see experiments/runs, or give resume=auto", exit_code=2) from error
    except (ValueError, TypeError, KeyError, AttributeError, OmegaConfBaseException, UserError) as error:
        raise UserError(f"{rule}, but {path} cannot be used ({error}): start a new run") from error


def unfinished(folder: Path) -> DictConfig | None:
    """The configuration of what is left to do in ``folder``; None where the run is finished and was not growing.

    Raises:
        UserError: ``folder`` is no run folder, or its configuration is damaged.
    """
    saved = read_config(folder)
    if finished(folder) is None:
        return saved
    if not (folder / GROWING / LAST).is_file():
        return None
    saved.trainer.max_epochs = read_config(folder / GROWING).trainer.max_epochs
    return saved


def differences(saved: Mapping[Any, Any], given: Mapping[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The options that a run may not go on with, as name, value there and value here; more epochs are none of them."""
    there, here = options(saved), options(given)
    for name in there | here:
        longer = name == EPOCHS and here[name] > there[name] and there["optimizer.schedule"] == "constant"
        if there.get(name) != here.get(name) and not longer:
            yield name, there.get(name), here.get(name)


def continued(folder: Path, composed: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration to continue ``folder`` with, after a comparison with what the command line asks for.

    Args:
        folder: the run folder.
        composed: the configuration of this command line.
        overrides: the command line's overrides; only these are compared, and only what decides the result.

    Raises:
        UserError: an override differs from the run, but for more epochs, or the run is finished; or the run's own
            configuration asks for what only a command line may.
    """
    saved = read_config(folder)
    check_objects(*(OmegaConf.to_container(config, resolve=True) for config in (saved, composed)))  # pyright: ignore[reportArgumentType]
    left = unfinished(folder)
    keys = [override.lstrip("+~").partition("=")[0].partition("@")[0].replace("/", ".") for override in overrides]

    def asked(name: str) -> bool:
        return any(key == "experiment" or f"{name}.".startswith(f"{key}.") for key in keys)

    for name, there, here in differences(saved, composed):
        if asked(name):
            raise UserError(
                f"a resumed run keeps its configuration, but {name} is {there!r} in {folder} and {here!r} here: leave "
                f"it out, or start a new run (only {EPOCHS} may grow, with optimizer.schedule=constant)",
                exit_code=2,
            )
    if asked(EPOCHS) and composed.trainer.max_epochs > saved.trainer.max_epochs:
        saved.trainer.max_epochs = composed.trainer.max_epochs
    elif left is None or (EPOCHS in keys and finished(folder)):
        raise UserError(
            f"a run to resume must be unfinished, but {folder} is finished: give a larger {EPOCHS} to train on",
            exit_code=2,
        )
    else:
        saved = left
    # where a machine keeps its cache is no part of a run, and no file's to say
    saved.data.cache_dir = composed.data.cache_dir
    _take_over(saved, composed, keys)
    root = saved.data.root
    if saved.data.source == "aclimdb" and root and root != composed.data.root and not expand(root).exists():
        raise UserError(
            f"no file chooses where reviews are downloaded to, but {folder} has data.root={root!r}, which is not "
            "there: give data.root=PATH",
            exit_code=2,
        )
    return saved


def _take_over(saved: DictConfig, composed: DictConfig, keys: Sequence[str]) -> None:
    """Put into ``saved`` what the command line gives that is no part of the result."""
    for key in keys:
        group = key.partition(".")[0]
        if key in WITHOUT_EFFECT:
            OmegaConf.update(saved, key, OmegaConf.select(composed, key))
        elif group == "logger":
            saved.logger = composed.logger
        elif group == "callbacks":
            kept = {name: entry for name, entry in saved.callbacks.items() if not _observes(entry)}
            saved.callbacks = kept | {name: entry for name, entry in composed.callbacks.items() if _observes(entry)}


def _observes(entry: DictConfig | None) -> bool:
    return entry is not None and only_observes(entry.get("_target_"))
