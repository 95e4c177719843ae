"""Which run to continue, and with which configuration: its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_imdb.config import check, restore
from rnn_imdb.errors import UserError
from rnn_imdb.files import CONFIG, METRICS, read_yaml
from rnn_imdb.foreign import check_objects

AUTO = "auto"
# what names a run or the way to it, and is no part of what is run
NOT_COMPARED = ("resume", "sweep")
_GROWING = "trainer.max_epochs"


def find(config: DictConfig, runs: Path) -> Path | None:
    """The folder that ``config.resume`` names; with ``auto``, None where no run among ``runs`` fits."""
    if config.resume != AUTO:
        return Path(config.resume)
    found = newest_unfinished(runs, config)
    print(f"resuming {found}" if found else f"no unfinished run of this configuration in {runs}: starting a new one")
    return found


def is_finished(folder: Path) -> bool:
    """Whether the run in ``folder`` reached its end: its figures are written last."""
    return (folder / METRICS).is_file()


def read_config(folder: Path) -> DictConfig:
    """The configuration that a run was started with.

    Raises:
        UserError: ``folder`` is no run folder, or its configuration is damaged.
    """
    path = folder / CONFIG
    rule = "resume must name a run folder, with the config.yaml of its start"
    try:
        restored = restore(read_yaml(path))
        check(restored)
        return restored
    except FileNotFoundError as error:
        raise UserError(f"{rule}, got {folder}: see experiments/runs, or give resume=auto", exit_code=2) from error
    except (ValueError, TypeError, KeyError, AttributeError, OmegaConfBaseException, UserError) as error:
        raise UserError(f"{rule}, but {path} cannot be used ({error}): start a new run") from error


def continued(folder: Path, composed: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration to continue ``folder`` with, after a comparison with what the command line asks for.

    Args:
        folder: the run folder.
        composed: the configuration of this command line.
        overrides: the command line's overrides; only these are compared.

    Raises:
        UserError: an override differs from the run, but for more epochs, or the run is finished; or the run's own
            configuration asks for what only a command line may.
    """
    saved = read_config(folder)
    check_objects(*(OmegaConf.to_container(config, resolve=True) for config in (saved, composed)))  # pyright: ignore[reportArgumentType]
    # where a machine keeps its cache is no part of a run, and no file's to say
    saved.data.cache_dir = composed.data.cache_dir
    growing = False
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].partition("@")[0].replace("/", ".")
        if key.split(".")[0] in NOT_COMPARED:
            continue
        for name, there, here in _differences(key, saved, composed):
            if name == _GROWING and isinstance(here, int) and here > there:
                if saved.optimizer.schedule != "constant":
                    raise UserError(
                        f"{name} may grow only with a constant learning rate, but {folder} has optimizer.schedule="
                        f"{saved.optimizer.schedule}, which is over with its last epoch: start a new run",
                        exit_code=2,
                    )
                OmegaConf.update(saved, name, here)
                growing = True
                continue
            raise UserError(
                f"a resumed run keeps its configuration, but {name} is {there!r} in {folder} and {here!r} here: leave "
                f"it out, or start a new run (only {_GROWING} may grow)",
                exit_code=2,
            )
    if is_finished(folder) and not growing:
        raise UserError(
            f"a run to resume must be unfinished, but {folder} is finished: give a larger {_GROWING} to train on",
            exit_code=2,
        )
    return saved


def _differences(key: str, saved: DictConfig, composed: DictConfig) -> list[tuple[str, Any, Any]]:
    """Options below ``key`` (an option, a group, or an experiment) that are not the same."""
    if key == "experiment":
        return [
            item for name in composed if name not in NOT_COMPARED for item in _differences(str(name), saved, composed)
        ]
    there, here = OmegaConf.select(saved, key), OmegaConf.select(composed, key)
    if isinstance(here, DictConfig) and isinstance(there, DictConfig):
        names = {**dict.fromkeys(there), **dict.fromkeys(here)}
        return [item for name in names for item in _differences(f"{key}.{name}", saved, composed)]
    return [] if there == here else [(key, there, here)]


def newest_unfinished(runs: Path, composed: DictConfig) -> Path | None:
    """The newest unfinished run below ``runs`` with the configuration ``composed``; None where there is none."""
    wanted = _comparable(OmegaConf.to_container(composed, resolve=True))
    for folder in sorted(runs.glob("*"), reverse=True):
        if not (folder / CONFIG).is_file() or is_finished(folder):
            continue
        try:
            found = OmegaConf.to_container(read_config(folder))
        except UserError:
            # a damaged configuration is nobody's
            continue
        if _comparable(found) == wanted:
            return folder
    return None


def _comparable(config: Any) -> Any:
    return (
        {key: value for key, value in config.items() if key not in NOT_COMPARED} if isinstance(config, dict) else None
    )
