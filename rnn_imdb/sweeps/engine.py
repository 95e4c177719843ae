"""What Hydra sweeps with: one grid or search, whose jobs run side by side, are composed once, and are not run again."""

import multiprocessing
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins import basic_launcher, basic_sweeper
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from rnn_imdb.common.console import as_command
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.interrupts import Interrupted, deferred
from rnn_imdb.common.processes import cores, end_with_parent
from rnn_imdb.config.command_line import parsed
from rnn_imdb.config.identity import flat
from rnn_imdb.config.names import OBJECTIVES
from rnn_imdb.sweeps import job
from rnn_imdb.sweeps.results import in_a_name, in_order, short_names, write_planned
from rnn_imdb.training.outcome import finished

# Hydra makes plugins of this package alone, so this module is there under a second name
_PLUGINS = "hydra_plugins.rnn_imdb"
# looking for plugins, Hydra runs the modules of its own once more: a class taken before is another one's
Plugins.instance()


class Start(Callback):
    """Finds in Hydra what a sweep goes over, and tells each job, whichever sweeper and launcher there are."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        sys.modules.setdefault("hydra_plugins", ModuleType("hydra_plugins"))
        sys.modules[_PLUGINS] = sys.modules[__name__]
        for plugin in (Grid, SideBySide):
            Plugins.instance().register(plugin)
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        hydra.config_loader = loader = Composer(hydra.config_loader)
        settings = config.hydra
        with as_command(), read_write(config), read_write(settings), open_dict(config):
            # of a key that is given twice the last counts
            typed = {each.get_key_element(): each for each in parsed(settings.overrides.task)}
            space = flat(settings.sweeper.get("params") or {})
            axes = {each.get_key_element(): each for each in parsed([f"{key}={space[key]}" for key in space])} | typed
            swept = [key for key, each in axes.items() if each.is_sweep_override()]
            told: dict[str, Any] = {"sweep.swept": [key.lstrip("+") for key in swept]}
            if config.sweep.name is None:
                told["sweep.name"] = _name(told["sweep.swept"])
            if settings.sweeper._target_ != f"{_PLUGINS}.Grid":
                told |= self._search(config, typed)
            for key, value in told.items():
                OmegaConf.update(config, key, value)
            # some sweepers write null and quoted values in ways that Hydra does not read, so these pass them by
            constant = [key for key in typed if key not in swept and key not in space]
            lines = [*(typed[key].input_line for key in constant), *(f"{key}={told[key]}" for key in told)]
            settings.overrides.hydra = [*settings.overrides.hydra, *lines]
            settings.overrides.task = [_listed(each, loader) for key, each in typed.items() if key not in constant]

    def _search(self, config: DictConfig, given: dict[str, Override]) -> dict[str, Any]:
        """What a search is told: its figures have a good direction, the same command draws alike, no job is tested."""
        if "test" in given and given["test"].value() is not False:
            raise UserError(
                "a search chooses by what it reads, so it reads no test reviews, got test=true: leave it out, and "
                "score the best job with python -m rnn_imdb.evaluate",
                exit_code=2,
            )
        sweeper = config.hydra.sweeper
        typed = {override.get_key_element() for override in parsed(config.hydra.overrides.hydra)}
        if "direction" in sweeper and "hydra.sweeper.direction" not in typed:
            directions = [f"{OBJECTIVES[name]}imize" for name in job.objectives(config)]
            sweeper.direction = directions if OmegaConf.is_list(config.sweep.objective) else directions[0]
        if "seed" in sweeper.get("sampler", {}) and sweeper.sampler.seed is None:
            sweeper.sampler.seed = config.seed
        return {"test": False, "sweep.jobs": sweeper.get("n_trials") or 1}


def _name(swept: list[str]) -> str:
    """The name of a sweep over ``swept``, in any order; seeds may be added to it."""
    known = [key for key in in_order(swept) if key != "seed"]
    others = sorted({*swept} - {*known, "seed"})
    return in_a_name("-".join(short_names([*known, *others] or swept).values())) or "sweep"


def _listed(override: Override, loader: ConfigLoader) -> str:
    """What was typed, but the files that a ``glob`` means by their names: not every sweeper knows the folders."""
    line, value = override.input_line or "", override.value()
    if not isinstance(value, Glob):
        return line
    names = value.filter(loader.get_group_options(override.key_or_group, ObjectType.CONFIG))
    if not names:
        raise UserError(
            f"glob goes over the files of a group, as optimizer=glob(*), but {line} finds none: list the values",
            exit_code=2,
        )
    return f"{override.get_key_element()}=choice({','.join(names)})"


class Composer(ConfigLoaderImpl):
    """Composes the files of a sweep's jobs once for each choice of files, and sets the values of a job in a copy."""

    def __init__(self, loader: ConfigLoader) -> None:
        super().__init__(loader.get_search_path())
        # pickled: that is copied three times faster
        self._bases: dict[tuple[str, ...], bytes] = {}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        given = parsed(sweep_overrides)
        values = [each for each in given if self._is_value(each)]
        files = [each.input_line or "" for each in given if each not in values]
        base = (*master_config.hydra.overrides.hydra, *files)
        if base not in self._bases:
            self._bases[base] = pickle.dumps(super().load_sweep_config(master_config, files))
        config: DictConfig = pickle.loads(self._bases[base])
        self._apply_overrides_to_config(values, config)
        settings = config.hydra
        # what a launcher says as it launches, which the job's files do not know
        if "n_jobs" in master_config.hydra.launcher:
            settings.launcher.n_jobs = master_config.hydra.launcher.n_jobs
        settings.overrides.task += [each.input_line for each in values]
        naming = settings.job.config.override_dirname
        settings.job.override_dirname = get_overrides_dirname(
            parsed(settings.overrides.task), naming.exclude_keys, naming.item_sep, naming.kv_sep
        )
        return config

    def _is_value(self, override: Override) -> bool:
        """Whether an override sets a value, as Hydra decides it, and none of Hydra's own."""
        named = not isinstance(override.value(), dict) and self.repository.group_exists(override.key_or_group)
        return not named and not override.is_hydra_override()


class Grid(basic_sweeper.BasicSweeper):
    """Every combination of the values given; what is finished is told, and not given to the launcher."""

    __module__ = _PLUGINS

    def sweep(self, arguments: list[str]) -> Any:
        assert self.config
        assert self.launcher
        assert self.hydra_context
        loader = self.hydra_context.config_loader
        given = OverridesParser.create(config_loader=loader).parse_overrides([*self._parse_config(), *arguments])
        if intervals := [override.input_line for override in given if override.is_interval_sweep()]:
            raise UserError(
                f"a grid goes over values, got {intervals[0]}: give choice(...) or range(...), or a sweeper that "
                "searches, as hydra/sweeper=optuna",
                exit_code=2,
            )
        (jobs,) = self.split_arguments(given, None)
        settings = self.config.hydra
        folder = Path(settings.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        with read_write(settings):
            settings.overrides.hydra.append(f"sweep.jobs={len(jobs)}")
        # a folder that the user names may be another job's
        named = OmegaConf.to_container(settings.sweep, resolve=False)["subdir"] == "${job_folder:}"  # pyright: ignore
        number, left, planned = 0, [], {}
        for overrides in jobs:
            # also finds out whether it can be composed
            composed = loader.load_sweep_config(self.config, overrides)
            path = folder / composed.hydra.sweep.subdir if named else folder
            # the name ends with the job's digest
            planned[path.name[-8:]] = job.swept(composed)
            if named and not path.is_symlink() and (metrics := finished(path)):
                print(f"{job.label(number, composed, path)}: {job.finished_line(metrics, ' before')}", flush=True)
                number += 1
            else:
                left.append(overrides)
        write_planned(folder, planned if named else {})
        for batch in self.split_overrides_to_chunks(left, self.max_batch_size) if left else ():
            for result in self.launcher.launch(batch, initial_job_idx=number):
                # raises what the job raised
                _ = result.return_value
            number += len(batch)


class SideBySide(basic_launcher.BasicLauncher):
    """As many jobs at a time as ``sweep.workers`` says, each a process that begins with torch imported."""

    __module__ = _PLUGINS

    def __init__(self, n_jobs: int | None = None) -> None:
        self.n_jobs = n_jobs

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        workers = min(_workers(self.config), len(job_overrides))
        if workers < 2:
            return super().launch(job_overrides, initial_job_idx)
        self.config.hydra.launcher.n_jobs = workers
        # each process has it then, and no thread has been started yet
        with deferred():
            import rnn_imdb.training.run  # noqa: F401
        context = multiprocessing.get_context("fork")
        waiting = deque(enumerate(job_overrides))
        running: dict[Any, tuple[int, Any]] = {}
        results = [JobReturn(status=JobStatus.COMPLETED) for _ in job_overrides]
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    index, overrides = waiting.popleft()
                    receiver, sender = context.Pipe(duplex=False)
                    process = context.Process(target=self._run, args=(sender, overrides, initial_job_idx + index))
                    process.start()
                    sender.close()
                    running[receiver] = index, process
                for receiver in wait(list(running)):
                    index, process = running.pop(receiver)
                    results[index].return_value = self._result(receiver, process, initial_job_idx + index)
        finally:
            for _, process in running.values():
                process.terminate()
            for _, process in running.values():
                process.join()
        return results

    def _run(self, sender: Connection, overrides: Sequence[str], number: int) -> None:
        """Be the process of one job."""
        end_with_parent()
        try:
            (result,) = super().launch([overrides], number)
            sender.send(result.return_value)
        except Interrupted as interrupt:
            # the parent tells it
            raise SystemExit(interrupt.exit_code) from None

    def _result(self, receiver: Any, process: Any, number: int) -> Any:
        """What a job returned; None where it was killed."""
        with suppress(EOFError):
            return receiver.recv()
        process.join()
        if process.exitcode >= 0:
            raise SystemExit(process.exitcode)
        killed = f"killed by {signal.Signals(-process.exitcode).name}, as happens where memory runs out"
        print(f"job {number + 1}: {killed}; the same command goes on", flush=True)
        return None


def _workers(config: DictConfig) -> int:
    """How many jobs run at a time: as ``sweep.workers`` says, by itself one a core, or one alone on a GPU."""
    if not hasattr(os, "fork"):
        # Windows
        return 1
    if config.sweep.workers != "auto":
        return config.sweep.workers
    if cores() < 2:
        return 1
    with deferred():
        import torch
    return 1 if config.trainer.accelerator != "cpu" and torch.cuda.is_available() else cores()
