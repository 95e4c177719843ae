"""Which run to continue, and with which configuration: its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import CONFIG, GROWING, LAST, expand, is_held, read_yaml
from rnn_imdb.common.processes import is_leader
from rnn_imdb.config.compose import check, restore
from rnn_imdb.config.foreign import check_objects
from rnn_imdb.config.identity import EPOCHS, WITHOUT_EFFECT, looks_on, options, reviews
from rnn_imdb.training.outcome import finished, recorded_reviews

AUTO = "auto"


def find(config: DictConfig, runs: Path) -> Path | None:
    """The folder that ``config.resume`` names; with ``auto``, None where no run among ``runs`` fits."""
    if config.resume != AUTO:
        return Path(config.resume)
    found = newest_unfinished(runs, config)
    print(f"resuming {found}" if found else f"no unfinished run of this configuration in {runs}: starting a new one")
    return found


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
    there, here = options(saved), options(composed)
    left = unfinished(folder)
    keys = [override.lstrip("+~").partition("=")[0].partition("@")[0].replace("/", ".") for override in overrides]
    for key in keys:
        for name in there | here:
            asked = key == "experiment" or f"{name}.".startswith(f"{key}.")
            longer = name == EPOCHS and here[name] > there[name]
            if asked and not longer and there.get(name) != here.get(name):
                raise UserError(
                    f"a resumed run keeps its configuration, but {name} is {there.get(name)!r} in {folder} and "
                    f"{here.get(name)!r} here: leave it out, or start a new run (only {EPOCHS} may grow)",
                    exit_code=2,
                )
    growing = there[EPOCHS] < here[EPOCHS] and any(key in ("experiment", "trainer", EPOCHS) for key in keys)
    if growing and saved.optimizer.schedule != "constant":
        raise UserError(
            f"{EPOCHS} may grow only with a constant learning rate, but {folder} has optimizer.schedule="
            f"{saved.optimizer.schedule}, which is over with its last epoch: start a new run",
            exit_code=2,
        )
    if growing:
        saved.trainer.max_epochs = here[EPOCHS]
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
        if key in WITHOUT_EFFECT:
            OmegaConf.update(saved, key, OmegaConf.select(composed, key))
        group = key.partition(".")[0]
        if group == "logger":
            saved.logger = composed.logger
        if group == "callbacks":
            kept = {name: entry for name, entry in saved.callbacks.items() if not _looks_on(entry)}
            saved.callbacks = kept | {name: entry for name, entry in composed.callbacks.items() if _looks_on(entry)}


def _looks_on(entry: DictConfig | None) -> bool:
    return entry is not None and looks_on(entry.get("_target_"))


def newest_unfinished(runs: Path, composed: DictConfig) -> Path | None:
    """The newest unfinished run below ``runs`` that ``composed`` describes, on its reviews, and in nobody's hands.

    Raises:
        UserError: the reviews cannot be read.
    """
    wanted = options(composed)
    for folder in _candidates(runs, wanted):
        recorded = recorded_reviews(folder)
        if recorded is None or recorded == reviews(composed):
            return folder
    return None


def _candidates(runs: Path, wanted: dict[str, object]) -> Iterator[Path]:
    for folder in sorted(runs.glob("*"), reverse=True):
        try:
            found = unfinished(folder)
            # the other processes of a distributed training find it held by their own first
            free = not is_leader() or not is_held(folder)
            fits = found is not None and options(found) == wanted and free
        except (UserError, OSError):
            # no configuration, a damaged one, or one that may not be read, is nobody's
            continue
        if fits:
            yield folder
