"""What Lightning would take and a run refuses, with the reason, and options without effect. Imports nothing heavy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rnn_imdb.common.errors import UserError

# +trainer.NAME=VALUE: arguments of Lightning's Trainer with which a run is resumed bitwise
PASSED_ON = (
    "benchmark",
    "detect_anomaly",
    "deterministic",
    "gradient_clip_algorithm",
    "inference_mode",
    "num_nodes",
    "profiler",
)

_WHOLE_EPOCHS = "a run consists of whole epochs, each with its validation and its checkpoints"
_SHORTER = "trainer.limit_train_batches=N makes an epoch shorter"

# all others
NOT_PASSED_ON = {
    "barebones": "every run keeps checkpoints and figures: leave it out",
    "callbacks": "callbacks are a group: give +callbacks.NAME._target_=CLASS",
    "check_val_every_n_epoch": f"{_WHOLE_EPOCHS}: leave it out",
    "default_root_dir": "the run folder has its option: give hydra.run.dir=FOLDER",
    "enable_autolog_hparams": "TensorBoard gets one line of hyperparameters at the end: leave it out",
    "enable_checkpointing": "every run keeps best.ckpt and last.ckpt: trainer.fast_dev_run=true keeps nothing",
    "enable_model_summary": "the run prints a summary of its own: leave it out",
    "limit_predict_batches": "a training predicts nothing: leave it out",
    "logger": "loggers are a group: give logger=tensorboard, csv or none",
    "max_steps": f"{_WHOLE_EPOCHS}: give trainer.max_epochs ({_SHORTER})",
    "max_time": f"{_WHOLE_EPOCHS}: interrupt the run and continue it with resume=RUN",
    "min_epochs": "early stopping alone ends a run early: give callbacks.early_stopping.patience=N",
    "min_steps": "early stopping alone ends a run early: give callbacks.early_stopping.patience=N",
    "model_registry": "checkpoints stay in the run folder: leave it out",
    "num_sanity_val_steps": "the first epoch validates soon enough: give trainer.fast_dev_run=true, which tries all",
    "overfit_batches": "it takes away the order of the batches: give trainer.limit_train_batches=N",
    "plugins": "the run's own plugin writes checkpoints whole: leave it out",
    "reload_dataloaders_every_n_epochs": "the reviews stay the same: leave it out",
    "sync_batchnorm": "no model here has batch normalisation: leave it out",
    "use_distributed_sampler": "the batches are divided among the processes already: leave it out",
    "val_check_interval": f"{_WHOLE_EPOCHS}: leave it out ({_SHORTER})",
}

_ITS_BARS = "a run has bars of its own: leave it out, or give trainer.enable_progress_bar=false"
_ITS_SUMMARY = "a run prints a summary of its own: leave it out"

# classes of lightning.pytorch.callbacks, and of those that are made from them
CALLBACKS = {
    "BaseFinetuning": "no model here has a backbone: leave it out",
    "BasePredictionWriter": "a training predicts nothing: use python -m rnn_imdb.predict",
    "BatchSizeFinder": "its trial steps change the weights: give data.batch_size=N",
    "GradientAccumulationScheduler": "schedules count on steps of one size: give trainer.accumulate_grad_batches=N",
    "LearningRateFinder": "its trial steps are not resumed: give optimizer.learning_rate, or several with -m",
    "ModelPruning": "no checkpoint can hold its masks: leave it out",
    "ModelSummary": _ITS_SUMMARY,
    "OnExceptionCheckpoint": "last.ckpt is there after any exception: leave it out",
    "ProgressBar": _ITS_BARS,
    "StochasticWeightAveraging": "its weights come after the last checkpoint: give callbacks=averaged",
    "Timer": f"{_WHOLE_EPOCHS}: interrupt the run and continue it with resume=RUN",
}

# the two checkpoints of a run, and what may be chosen about them
_CHECKPOINTS = {"best_checkpoint": ("monitor", "mode"), "last_checkpoint": ()}


@dataclass(frozen=True)
class Effect:
    """The value that an option has when it is not given, and when another one matters, in words and as a test."""

    default: Any
    text: str
    holds: Callable[[Any], bool]


def _of(encoder: str, default: Any) -> Effect:
    return Effect(default, f"model.encoder={encoder}", lambda config: config.model.encoder == encoder)


EFFECTS = {
    "model.readout": _of("rnn", "last"),
    "model.bidirectional": _of("rnn", False),
    "model.recurrent": _of("rnn", True),
    "model.activation": _of("rnn", "tanh"),
    "model.bias": _of("rnn", True),
    "model.spectral_radius": Effect(
        None,
        "model.encoder=rnn and model.recurrent=true",
        lambda config: config.model.encoder == "rnn" and config.model.recurrent,
    ),
    "model.scan": _of("rnn", "auto"),
    "model.kernel_size": _of("conv", 5),
    "optimizer.nesterov": Effect(False, "optimizer.momentum above 0", lambda config: config.optimizer.momentum > 0),
    "trainer.gradient_clip_algorithm": Effect(
        None, "trainer.gradient_clip_val", lambda config: config.trainer.gradient_clip_val is not None
    ),
}


def check_checkpoints(callbacks: Mapping[str, Any]) -> None:
    """Make sure that a run will end with ``best.ckpt`` and ``last.ckpt``.

    Raises:
        UserError: their callbacks were taken away or changed, but for what is called best.
    """
    for name, free in _CHECKPOINTS.items():
        file = name.removesuffix("_checkpoint")
        fixed = {
            "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
            "filename": file,
            "enable_version_counter": False,
        }
        entry = callbacks.get(name) or {}
        found = {option: value for option, value in entry.items() if option not in free}
        changed = [option for option in (fixed | found) if found.get(option, ...) != fixed.get(option, ...)]
        if changed:
            got = f"got {changed[0]}={found[changed[0]]}" if changed[0] in found else f"got no {changed[0]}"
            remedy = f"only {' and '.join(free)} can be chosen" if free else "leave it as it is"
            raise UserError(
                f"callbacks.{name} must write checkpoints/{file}.ckpt at the end of an epoch, {got}: {remedy}; "
                "+callbacks.NAME._target_=lightning.pytorch.callbacks.ModelCheckpoint adds further checkpoints",
                exit_code=2,
            )


def check_effects(config: DictConfig) -> None:
    """Refuse an option that was given and has no effect; what a sweep goes over may have one in its other jobs.

    Raises:
        UserError: there is one.
    """
    swept = config.sweep.swept if "sweep" in config else ()
    for key, effect in EFFECTS.items():
        value = OmegaConf.select(config, key, default=effect.default)
        if value != effect.default and key not in swept and not effect.holds(config):
            raise UserError(f"{key} has an effect only with {effect.text}, got {value}: leave it out", exit_code=2)
