"""What the Hydra commands share: their help, and errors without a traceback."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from rnn_imdb import command_line, config
from rnn_imdb.console import as_command
from rnn_imdb.errors import UserError, fail, is_out_of_memory
from rnn_imdb.help import help_text
from rnn_imdb.interrupts import Interrupted, interruptible
from rnn_imdb.schema import option_names, rule_of

# what a command's need of memory grows with
_MEMORY = {
    "train": ("data.batch_size", "data.evaluation_batch_size", "model.state_dim"),
    "evaluate": ("data.evaluation_batch_size",),
    "benchmark": ("batch_sizes", "state_dims", "data.batch_size"),
}


@as_command()
def run_hydra(
    name: str, task: Callable[[DictConfig], None], prepare: Callable[[list[str]], list[str]] = command_line.prepare
) -> None:
    """Compose the configuration ``name`` and give it to ``task``; end the process where that fails.

    ``prepare`` makes of what the user typed what Hydra can read.

    A :class:`UserError` and a configuration that Hydra refuses are printed without a traceback.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(help_text(_root(name), name))
        return
    sys.argv[1:] = prepare(sys.argv[1:])
    config.register()

    def refusing(composed: DictConfig) -> None:
        try:
            task(composed)
        except UserError as error:
            _refuse(str(error), error.exit_code)
        except OmegaConfBaseException as error:
            # an interpolation is resolved only where its value is read
            _refuse(_explain(error), 2)
        except (MemoryError, RuntimeError, OSError) as error:
            if not is_out_of_memory(error):
                raise
            sizes = {key: OmegaConf.select(composed, key) for key in _MEMORY[name]}
            given = ", ".join(key if value is None else f"{key} ({value})" for key, value in sizes.items())
            reason = str(error) or type(error).__name__
            _refuse(f"memory must hold a batch and the model, but it ran out ({reason}): make smaller {given}", 1)

    # Hydra's own report would add a traceback, or hide one of ours
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        with interruptible():
            hydra.main(version_base="1.3", config_path=str(_root(name)), config_name=name)(refusing)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(_explain(error), 2)
    except ValueError as error:
        # what Hydra says of GROUP=null and GROUP=3 is no HydraException
        if str(error).startswith("Only one of"):
            fail(str(error), 2)
        if not str(error).startswith("Config group override"):
            raise
        fail(f"{error}: name a file of the group, as in data=embedded, or leave it out", 2)
    except Interrupted as interrupt:
        raise SystemExit(interrupt.exit_code) from None


def _root(name: str) -> Path:
    """The folder of the configuration ``name``: evaluation has data groups of its own."""
    folder = config.conf_folder()
    return folder / name if (folder / name).is_dir() else folder


def _refuse(message: str, code: int) -> NoReturn:
    remove_if_empty(Path(HydraConfig.get().runtime.output_dir))
    fail(message, code)


def remove_if_empty(folder: Path) -> None:
    """A refused configuration leaves no empty run folder behind."""
    try:
        folder.rmdir()
    except OSError:
        # it holds something, or is not there
        return


def _explain(error: Exception) -> str:
    """What Hydra refused, with the rule and the valid names where they are known."""
    cause = error.__cause__ if isinstance(error, ConfigCompositionException) else error
    key = getattr(cause, "full_key", None)
    schema = getattr(cause, "object_type", None)
    names = option_names(schema)
    if key and names:
        name = key.rpartition(".")[2]
        if name not in names:
            return config.unknown_key(key, names)
        rule = rule_of(schema, name)
        problem = str(cause).splitlines()[0]
        return f"{key} must be {rule.text}: {problem}" if rule else f"{key}: {problem}"
    if key and isinstance(cause, ValidationError):
        return f"{key}: {str(cause).splitlines()[0]}"
    lines = [line for line in str(error).splitlines() if "See https://hydra.cc" not in line]
    # the search path says nothing about the option
    text = "\n".join(lines).split("Config search path:")[0].strip()
    return text.replace("\n\n", "\n")
