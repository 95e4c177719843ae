"""What the Hydra commands share: their help, and errors without a traceback."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rnn_imdb.common.console import as_command
from rnn_imdb.common.errors import UserError, fail, is_out_of_memory, unusable
from rnn_imdb.common.files import CONFIG, LOCK, VERSIONS, locked
from rnn_imdb.common.interrupts import Interrupted, ignore_signals, interruptible
from rnn_imdb.common.processes import is_leader
from rnn_imdb.config import command_line
from rnn_imdb.config.compose import conf_root, register
from rnn_imdb.config.explain import explain
from rnn_imdb.config.help import help_text

# what a command's need of memory grows with
_MEMORY = {
    "train": ("data.batch_size", "data.evaluation_batch_size", "model.state_dim"),
    "evaluate": ("data.evaluation_batch_size",),
    "benchmark": ("batch_sizes", "state_dims", "data.batch_size"),
}


@as_command()
def run_hydra(
    name: str, task: Callable[[DictConfig], Any], prepare: Callable[[list[str]], list[str]] = command_line.prepare
) -> None:
    """Compose the configuration ``name`` and give it to ``task``; end the process where that fails.

    A :class:`UserError` and a configuration that Hydra refuses are printed without a traceback.

    Args:
        prepare: makes what Hydra can read of what the user typed.
    """
    root = conf_root(name)
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(root, name))
        return
    sys.argv[1:] = prepare(sys.argv[1:])
    register()

    def refusing(composed: DictConfig) -> Any:
        if HydraConfig.get().job.chdir:
            _refuse("paths are those of the working directory, got hydra.job.chdir=true: leave it out", 2)
        try:
            return task(composed)
        except UserError as error:
            _refuse(str(error), error.exit_code)
        except OmegaConfBaseException as error:
            # an interpolation is resolved only where its value is read
            _refuse(explain(error, name), 2)
        except (MemoryError, RuntimeError, OSError) as error:
            if not is_out_of_memory(error):
                if isinstance(error, OSError):
                    # Hydra would say first which job it was
                    _refuse(unusable(error), 1)
                raise
            sizes = {key: OmegaConf.select(composed, key) for key in _MEMORY[name]}
            given = ", ".join(key if value is None else f"{key} ({value})" for key, value in sizes.items())
            reason = str(error) or type(error).__name__
            _refuse(f"memory must hold a batch and the model, but it ran out ({reason}): make smaller {given}", 1)

    # Hydra's own report would add a traceback, or hide one of ours
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with interruptible():
            hydra.main(version_base="1.3", config_path=str(root), config_name=name)(refusing)()
    except SystemExit as end:
        # a launcher's worker refuses in a process of its own
        if end.code in (1, 2):
            leave_nothing()
        raise
    except (HydraException, OmegaConfBaseException) as error:
        _refuse(explain(error, name), 2)
    except OSError as error:
        _refuse(f"{unusable(error)} run folder with hydra.run.dir, a sweep's with hydra.sweep.dir", 1)
    except ValueError as error:
        # what Hydra says of GROUP=null and GROUP=3 is no HydraException
        if str(error).startswith(("Only one of", "The --resolve flag")):
            fail(str(error), 2)
        if not str(error).startswith("Config group override"):
            raise
        fail(f"{error}: name a file of the group, as in data=embedded, or leave it out", 2)
    except Interrupted as interrupt:
        ignore_signals()
        # of several processes, one speaks for all
        if is_leader():
            remedy = f"to continue:\n  {interrupt.remedy}" if interrupt.remedy else "give the same command again"
            print(f"\ninterrupted; {remedy}", file=sys.stderr)
        raise SystemExit(interrupt.exit_code) from None


# what Hydra and a run write down before anything is trained
_WRITTEN_FIRST = {"multirun.yaml", LOCK, CONFIG, VERSIONS}


class Footprint(Callback):
    """Notes which folders Hydra is about to make, for a run that is refused to leave none of them behind."""

    made: ClassVar[list[Path]] = []

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._note(config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self._note(config.hydra.sweep.dir)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.runtime.output_dir)
        if config.hydra.mode == RunMode.MULTIRUN and not any(folder.iterdir()):
            self.made.insert(0, folder)

    def _note(self, folder: str) -> None:
        path = Path(folder).absolute()
        # Path's own would raise an error where a name is too long
        self.made[:] = [each for each in (path, *path.parents) if not os.path.lexists(each)]


def of_hydra() -> list[str]:
    """What Hydra itself has just written into the run folder: its configurations and its logs."""
    if not HydraConfig.initialized():
        return []
    hydra = HydraConfig.get()
    handlers = [*hydra.job_logging.get("handlers", {}).values(), *hydra.hydra_logging.get("handlers", {}).values()]
    logs = [Path(handler.filename).name for handler in handlers if "filename" in handler]
    return logs if hydra.output_subdir is None else [*logs, hydra.output_subdir]


def leave_nothing() -> None:
    """Take away the folders that Hydra made for a run that is refused, where nothing was trained in them."""
    for folder in Footprint.made:
        try:
            if {path.name for path in folder.iterdir()} <= {*_WRITTEN_FIRST, *of_hydra()}:
                with locked(folder):
                    shutil.rmtree(folder)
        except (OSError, UserError):
            # it was not made after all, or is another's
            continue


def _refuse(message: str, code: int) -> NoReturn:
    leave_nothing()
    fail(message, code)
