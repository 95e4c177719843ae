"""One training run: data, model, trainer, test, and what the run folder keeps. It can be killed at any moment."""

import json
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import (
    BEST,
    CONFIG,
    GROWING,
    LAST,
    LOCK,
    METRICS,
    VERSIONS,
    locked,
    refuse_links,
    write_atomically,
)
from rnn_imdb.common.interrupts import check as check_signals
from rnn_imdb.common.interrupts import deferred
from rnn_imdb.common.processes import is_leader, together
from rnn_imdb.config.hydra import of_hydra
from rnn_imdb.config.identity import short
from rnn_imdb.model.embedding import frequent_pairs
from rnn_imdb.training import environment
from rnn_imdb.training.announce import announcement, next_steps, scores
from rnn_imdb.training.board import Charts, log_best, log_configuration
from rnn_imdb.training.checkpoint import Checkpoint, open_checkpoint
from rnn_imdb.training.environment import invocation, machine, versions
from rnn_imdb.training.epoch_seed import EpochSeed
from rnn_imdb.training.lean import keep_rows, written_at_the_end
from rnn_imdb.training.outcome import finished
from rnn_imdb.training.progress import EpochTable
from rnn_imdb.training.resume import read_config
from rnn_imdb.training.resume_check import check_last, open_last
from rnn_imdb.training.saving import Saving, content_of
from rnn_imdb.training.trainer import build_data, build_module, build_trainer, parameter_dtype, refusals


def train(
    config: DictConfig, folder: str | Path, *, resuming: bool = False, callbacks: Sequence[L.Callback] = ()
) -> dict[str, Any]:
    """Train as ``config`` says, score the best epoch on the test reviews, and write both into ``folder``.

    Args:
        config: a checked configuration of ``conf/train.yaml``.
        folder: the run folder: empty or not there yet, or to be continued from its last epoch.
        resuming: whether the folder is one to continue; a finished run is then returned as it is.
        callbacks: further ones, as a search has to watch and end a trial (``trainer.should_stop``).

    Returns:
        What ``metrics.json`` holds: figures of the best epoch (``validation/…``), ``test/…`` and ``train/…``;
        ``parameters``, ``best_epoch``, ``weights`` (their digest), ``epochs``, ``seconds`` (of training and
        validation, all sessions together); and ``history``, the figures of each epoch.

    Raises:
        UserError: the folder is in use, or data or configuration cannot be used.
        Busy: another process is training in the folder.
    """
    folder = Path(folder)
    # the other processes of a distributed training find the folder taken by theirs
    if is_leader() and resuming:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_links(folder)
    elif is_leader():
        _refuse_used(folder)
    with locked(folder) if is_leader() else nullcontext():
        # asked within the lock: another process may have come to the end since
        done = finished(folder) if resuming else None
        growing = done is not None and _grows(config, folder)
        if done is not None and not growing:
            return done
        if is_leader() and not resuming:
            if (folder / CONFIG).is_file():
                raise UserError(
                    f"two runs were given the folder {folder}, and the other was first: try again", exit_code=2
                )
            _write_config(folder, config)
        return _train(config, folder, folder / GROWING if growing else folder, callbacks)


def _grows(config: DictConfig, folder: Path) -> bool:
    """Whether a finished run is to train on, or was interrupted while it did."""
    begun = (folder / GROWING / LAST).is_file()
    return begun or config.trainer.max_epochs > read_config(folder).trainer.max_epochs


def _train(config: DictConfig, folder: Path, work: Path, callbacks: Sequence[L.Callback]) -> dict[str, Any]:
    """Train in ``folder``; checkpoints lie in ``work``, a folder within it for a finished run that trains on."""
    environment.start(config.seed)
    data = build_data(config.data, seed=config.seed)
    data.setup()
    module = build_module(config, len(data.vocabulary))
    module.classifier.pairs = frequent_pairs(data.split("train").tokens, config.model.bigrams)
    source = _source(config, folder, work)
    last = open_last(source) if source else None
    table = EpochTable(last.rows if last else ())
    module.content = content_of(config, data, module.classifier) | {"rows": table.rows}
    trainer = build_trainer(
        config,
        folder,
        [
            EndAtSignal(),
            EpochSeed(config.seed),
            Charts(),
            table,
            Saving(None if source else work / LAST),
            *callbacks,
        ],
        checkpoints=work / LAST.parent,
        purge_step=last.step if last else None,
    )
    data.check_shares(trainer.world_size)
    if source and last:
        check_last(last, source, config, data, module, trainer)
    if is_leader():
        keep_rows(trainer.loggers, last.step if last else 0)
    # all processes refuse what cannot run, one shows what can
    device = trainer.strategy.root_device
    text = announcement(config, data, module.classifier, device, parameter_dtype(trainer), folder)
    if trainer.is_global_zero:
        # nothing was changed before
        _write_start(config, work, short(data.source.fingerprint()), source)
        print(text, flush=True)
        log_configuration(trainer, config)

    # a callback may lack what it needs
    with together(trainer), deferred(), refusals(MisconfigurationException, ModuleNotFoundError):
        trainer.fit(module, data, ckpt_path=work / LAST if source else None)
    if config.trainer.fast_dev_run:
        return {}
    if trainer.is_global_zero and (reason := table.why_stopped(trainer)):
        print(reason, flush=True)
    # processes that srun or torchrun started have named folders of their own, and written nothing there
    named, work = work, trainer.strategy.broadcast(work)
    if named != work:
        named.rmdir()
    best = _best(work, table.rows)
    metrics: dict[str, Any] = {name: value for name, value in table.rows[best.epoch].items() if "/" in name}
    with deferred(), written_at_the_end(trainer.loggers if trainer.is_global_zero else ()):
        if config.test:
            module.classifier.load_state_dict(best.weights)
            module.tested_step = best.step - 1
            with together(trainer), refusals(MisconfigurationException):
                trainer.test(module, data, verbose=False)
            metrics |= {name: value.item() for name, value in trainer.callback_metrics.items()}
        metrics |= {
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "best_epoch": best.epoch + 1,
            "weights": best.digest(),
            "epochs": len(table.rows),
            "seconds": sum(row["seconds"] for row in table.rows),
            "history": table.rows,
        }
        log_best(trainer, config, metrics, best.step - 1)
    if trainer.is_global_zero:
        epoch = best.epoch + 1
        if config.test:
            batches = sum(trainer.num_test_batches) * config.data.evaluation_batch_size
            size = min(batches, len(data.split("test").labels))
            print(scores(metrics, "test", epoch=epoch, reviews=int(size), source=config.data.source))
        else:
            loss, accuracy = metrics["validation/loss"], metrics["validation/accuracy"]
            print(f"best is epoch {epoch}: validation loss {loss:.4f}  accuracy {accuracy:.2%}")
        print(f"weights of epoch {epoch}: sha256 {metrics['weights']}")
        _write_end(metrics, folder, work)
        print(next_steps(folder, config))
    return metrics


class EndAtSignal(L.Callback):
    """Answers a signal between two batches, where nothing is half written."""

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        check_signals()

    def on_validation_batch_start(self, *args: Any, **kwargs: Any) -> None:
        check_signals()

    def on_test_batch_start(self, *args: Any, **kwargs: Any) -> None:
        check_signals()


def _best(work: Path, rows: list[dict[str, float]]) -> Checkpoint:
    """The best checkpoint of the run whose epochs are ``rows``.

    Raises:
        UserError: another lies in its place.
    """
    best = open_checkpoint(work)
    # each process measures its own seconds
    found, known = ([row | {"seconds": 0} for row in table] for table in (best.rows, rows[: best.epoch + 1]))
    if json.dumps(found) != json.dumps(known):
        raise UserError(
            f"{best.path} must be of one of the run's epochs, but its figures are of another history: put the run's "
            "own back and give resume=RUN, or start a new run"
        )
    return best


def _refuse_used(folder: Path) -> None:
    """A new run writes over nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        used = any(path.name not in (LOCK, *of_hydra()) for path in folder.iterdir())
    except OSError as error:
        raise UserError(
            f"the run folder {folder} cannot be written ({error}): name another with hydra.run.dir"
        ) from error
    if used:
        raise UserError(
            f"a run folder must be new or empty, but {folder} is not: leave hydra.run.dir to its default, or name "
            "another folder (resume=FOLDER continues a run)",
            exit_code=2,
        )


def _write_config(folder: Path, config: DictConfig) -> None:
    content = OmegaConf.to_yaml(config, resolve=True).encode()
    if not (folder / CONFIG).is_file() or (folder / CONFIG).read_bytes() != content:
        write_atomically(folder / CONFIG, content)


def _source(config: DictConfig, folder: Path, work: Path) -> Path | None:
    """The folder whose last checkpoint the training goes on from; None where it begins.

    Raises:
        UserError: a finished run has none to train on from.
    """
    # a longer run than is asked for now may have been begun
    if (work / LAST).is_file() and (work == folder or open_checkpoint(work / LAST).epoch < config.trainer.max_epochs):
        return work
    if work == folder:
        return None
    if not (folder / LAST).is_file():
        raise UserError(f"a finished run trains on from its {LAST}, but {folder} has none: start a new run")
    return folder


def _write_start(config: DictConfig, work: Path, found: str, source: Path | None) -> None:
    """Write down what is run, where and on which reviews; and begin a longer run with the checkpoints of ``source``."""
    work.mkdir(exist_ok=True)
    _write_config(work, config)
    text = json.dumps(versions() | machine() | invocation() | {"reviews": found}, indent=2) + "\n"
    write_atomically(work / VERSIONS, text.encode())
    if source is not None and source != work:
        _copy(source, work, BEST, LAST)


def _write_end(metrics: dict[str, Any], folder: Path, work: Path) -> None:
    """Move what a grown run has in ``work`` to its folder, and write the figures, which say that it is finished."""
    if work != folder:
        _copy(work, folder, BEST, LAST, Path(VERSIONS), Path(CONFIG))
    write_atomically(folder / METRICS, (json.dumps(metrics, indent=2) + "\n").encode())
    if work != folder:
        # first what says that there is something to go on with
        (work / LAST).unlink()
        shutil.rmtree(work)


def _copy(source: Path, target: Path, *names: Path) -> None:
    for name in names:
        (target / name).parent.mkdir(exist_ok=True)
        write_atomically(target / name, (source / name).read_bytes())
