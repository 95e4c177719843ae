"""What Lightning would take: a run resumes bitwise with it, or refuses it by name before it trains."""

import inspect
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from conftest import compose, interrupt_at
from lightning.pytorch import callbacks as lightning_callbacks
from omegaconf import OmegaConf

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST, LAST
from rnn_imdb.common.interrupts import Interrupted
from rnn_imdb.config import lightning_options as refused
from rnn_imdb.config import schema
from rnn_imdb.config.checks import EFFECTS, check
from rnn_imdb.model import ENCODERS
from rnn_imdb.training import environment
from rnn_imdb.training.run import train
from rnn_imdb.training.trainer import FIGURES, build_trainer, check_callbacks

MORE = "+callbacks.more._target_=lightning.pytorch.callbacks"


def test_every_argument_of_lightnings_trainer_is_taken_or_refused() -> None:
    known = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    groups = (schema.option_names(schema.TrainerConfig), refused.PASSED_ON, refused.NOT_PASSED_ON)
    assert sorted(name for group in groups for name in group) == sorted(known)


def test_argument_that_no_run_can_have_is_refused_with_the_reason() -> None:
    with pytest.raises(UserError, match=r"trainer\.max_steps cannot be given: .*give trainer\.max_epochs") as caught:
        compose("train", "+trainer.max_steps=5")
    assert caught.value.exit_code == 2
    whole = compose("train")
    for name in refused.NOT_PASSED_ON:
        config = whole.copy()
        # also what would be Lightning's own default
        OmegaConf.update(config, f"trainer.{name}", None, force_add=True)
        with pytest.raises(UserError, match=rf"trainer\.{name} cannot be given: .*: \w"):
            check(config)


PASSED_ON = [
    "+trainer.benchmark=false",
    "+trainer.detect_anomaly=true",
    "+trainer.deterministic=true",
    "+trainer.gradient_clip_algorithm=value",
    "trainer.gradient_clip_val=0.01",
    "+trainer.inference_mode=false",
    "+trainer.num_nodes=1",
    "+trainer.profiler=simple",
]


def test_run_with_all_that_is_passed_on_resumes_bitwise(
    small_overrides: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert {option.partition("=")[0].rpartition(".")[2] for option in PASSED_ON} >= set(refused.PASSED_ON)
    config = compose("train", *small_overrides, *PASSED_ON, "trainer.max_epochs=2", "model.state_dim=8", "test=false")
    try:
        train(config, tmp_path / "whole")
        assert "FIT Profiler Report" in caplog.text
        with pytest.MonkeyPatch.context() as patch:
            interrupt_at(patch, 7)
            with pytest.raises(Interrupted):
                train(config, tmp_path / "parts")
        train(config, tmp_path / "parts", resuming=True)
    finally:
        # Lightning sets it for the whole process
        torch.use_deterministic_algorithms(False)
    for which in (BEST, LAST):
        parts, whole = (torch.load(tmp_path / name / which)["state_dict"] for name in ("parts", "whole"))
        assert all(torch.equal(parts[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("~callbacks.best_checkpoint", r"must write checkpoints/best\.ckpt .*got no _target_: only"),
        ("callbacks.best_checkpoint=null", r"best_checkpoint must write .*got no _target_: only monitor and mode"),
        ("callbacks.best_checkpoint.filename=mine", r"must write checkpoints/best\.ckpt .*got filename=mine"),
        ("+callbacks.best_checkpoint.dirpath=x", r"got dirpath=x: only monitor and mode"),
        ("+callbacks.best_checkpoint.save_top_k=0", r"got save_top_k=0"),
        ("+callbacks.best_checkpoint.save_weights_only=true", r"got save_weights_only=True"),
        ("callbacks.best_checkpoint.enable_version_counter=true", r"got enable_version_counter=True"),
        ("~callbacks.last_checkpoint", r"last_checkpoint must write checkpoints/last\.ckpt .*: leave it as it is"),
        ("+callbacks.last_checkpoint.every_n_train_steps=5", r"at the end of an epoch, got every_n_train_steps=5"),
        ("+callbacks.last_checkpoint.monitor=train/loss", r"got monitor=train/loss: leave it as it is"),
        ("~callbacks.last_checkpoint.filename", r"last_checkpoint must .*got no filename"),
    ],
)
def test_checkpoints_that_a_run_ends_with_cannot_be_taken_away(overrides: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose("train", *overrides.split())


def trainer(tmp_path: Path, *overrides: str) -> L.Trainer:
    environment.start(0)
    return build_trainer(compose("train", "trainer.accelerator=cpu", *overrides), tmp_path, [])


@pytest.mark.parametrize("name", refused.CALLBACKS)
def test_callback_that_no_run_can_have_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    kind: Any = getattr(lightning_callbacks, name)
    arguments: dict[str, Any] = {
        "OnExceptionCheckpoint": "x",
        "StochasticWeightAveraging": 0.1,
        "ModelPruning": "l1_unstructured",
        "GradientAccumulationScheduler": {0: 2},
    }
    made = kind(arguments[name]) if name in arguments else kind()
    with pytest.raises(UserError, match=rf"the callback {name} cannot be given: \w.*: \w"):
        check_callbacks([made], [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (f"{MORE}.TQDMProgressBar", r"TQDMProgressBar cannot be given: a run has bars"),
        ("callbacks.early_stopping.monitor=val_loss", r"EarlyStopping must have as its monitor validation/loss with"),
        ("callbacks.early_stopping.monitor=train/loss", r"monitor validation/loss with .*got train/loss with mode=min"),
        ("callbacks.early_stopping.mode=max", r"got validation/loss with mode=max"),
        ("callbacks.best_checkpoint.monitor=validation/accuracy", r"got validation/accuracy with mode=min"),
        ("callbacks.early_stopping.patience=[1,2]", r"early_stopping\.patience must be a whole number, got \[1, 2\]"),
        ("callbacks.early_stopping.patience=two", r"early_stopping\.patience must be a whole number, got 'two'"),
        ("callbacks.early_stopping.patience=true", r"early_stopping\.patience must be a whole number, got True"),
        ("+callbacks.early_stopping.strict=1", r"early_stopping\.strict must be true or false, got 1"),
        ("+callbacks.early_stopping.stopping_threshold=low", r"threshold must be a number or null, got 'low'"),
        ("callbacks=averaged callbacks.average.decay=[0.9]", r"average\.decay must be a number, got \[0\.9\]"),
        ("callbacks.forgetting.reviews=[3]", r"forgetting\.reviews must be a whole number, got \[3\]"),
        ("logger.tensorboard.default_hp_metric=[1]", r"default_hp_metric must be true or false, got \[1\]"),
        ("callbacks.early_stopping.patience=-1", r"must have a patience from 0 and a finite min_delta, got -1 and 0"),
        ("+callbacks.early_stopping.min_delta=nan", r"must have a patience from 0 and a finite min_delta, got 2 and"),
        ("+logger.tensorboard.max_queue=many", r"tensorboard\.max_queue must be a whole number, got 'many'"),
        ("+logger.tensorboard.filename_suffix=3", r"tensorboard\.filename_suffix must be a text, got 3"),
        ("+logger.tensorboard.max_que=3", r"Lightning accepts, but it says: .*unexpected keyword argument 'max_que'"),
        *(
            (f"{MORE}.{name} logger=none", rf"{name} must have a logger to write to")
            for name in ("LearningRateMonitor", "DeviceStatsMonitor")
        ),
        ("+callbacks.early_stoping.patience=3", r"early_stoping must have a _target_.*best_checkpoint, last"),
        ("+callbacks.mine=3", r"callbacks\.mine must have a _target_, the class to make, or be null, got 3"),
        ("+callbacks.mine._target_=no.such.Class", r"arguments that Lightning accepts, but it says: .*no"),
        ("+callbacks.early_stopping.patiense=3", r"patiense"),
        (f"{MORE}.ModelCheckpoint +callbacks.more.filename=best", r"each ModelCheckpoint must have a filename of its"),
        (f"{MORE}.ModelCheckpoint +callbacks.more.save_last=true", r"none save_last, for last\.ckpt is there"),
        (f"{MORE}.ModelCheckpoint", r"Found more than one stateful callback"),
        ("trainer.accelerator=gpu", r"must have arguments that Lightning accepts, but it says"),
        ("trainer.accelerator=cpus", r"must have arguments that Lightning accepts, but it says"),
        ("trainer.devices=[0]", r"must have arguments that Lightning accepts, but it says: .*CPUAccelerator"),
        ("+trainer.profiler=quick", r"must have arguments that Lightning accepts, but it says: .*profiler"),
    ],
)
def test_callbacks_loggers_and_devices_are_checked_before_training(
    overrides: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        trainer(tmp_path, *overrides.split())
    assert caught.value.exit_code == 2


def test_callbacks_and_loggers_are_switched_off_by_null(tmp_path: Path) -> None:
    made = trainer(tmp_path, "callbacks.early_stopping=null", "logger.tensorboard=null")
    assert made.early_stopping_callback is None
    assert made.loggers == []


@pytest.mark.parametrize("monitor", FIGURES)
def test_each_figure_can_be_watched(monitor: str, tmp_path: Path) -> None:
    options = [f"monitor={monitor}", f"mode={FIGURES[monitor]}"]
    watched = [f"callbacks.{name}.{option}" for name in ("best_checkpoint", "early_stopping") for option in options]
    made = trainer(tmp_path, *watched, "callbacks.early_stopping.check_on_train_epoch_end=true")
    assert made.early_stopping_callback is not None
    assert made.early_stopping_callback.monitor == monitor


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("model.encoder=dense model.readout=all", r"readout has an effect only with model\.encoder=rnn, got all"),
        ("model.encoder=conv model.scan=cpu", r"model\.scan has an effect only with model\.encoder=rnn"),
        ("model.encoder=conv model.bidirectional=true", r"model\.bidirectional has"),
        ("model.readout=all optimizer.target_replication=0.5", r"target_replication has .* with model\.readout=last"),
        ("model.encoder=conv model.recurrent=false", r"model\.recurrent has"),
        ("model.encoder=dense model.activation=identity", r"model\.activation has"),
        ("model.encoder=dense model.bias=false", r"model\.bias has"),
        ("model.recurrent=false model.spectral_radius=0.9", r"spectral_radius has .* with .*recurrent=true"),
        ("model.kernel_size=3", r"model\.kernel_size has an effect only with model\.encoder=conv, got 3: leave it out"),
        ("optimizer=sgd optimizer.momentum=0 optimizer.nesterov=true", r"nesterov has .*momentum above 0, got True"),
        ("+trainer.gradient_clip_algorithm=value", r"algorithm has an effect only with trainer\.gradient"),
    ],
)
def test_option_without_effect_is_refused(overrides: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose("train", *overrides.split())


def test_sweep_and_saved_run_may_have_options_without_effect() -> None:
    swept = ["model.encoder=dense", "model.readout=all"]
    config = compose("train", *swept, "sweep.swept=[model.encoder,model.readout]")
    config.sweep.swept = []
    check(config, saved=True)
    with pytest.raises(UserError, match=r"model\.readout has an effect only"):
        check(config)


def test_effects_know_what_each_encoder_takes() -> None:
    config = compose("train")
    takes = {name: set(inspect.signature(kind).parameters) for name, kind in ENCODERS.items()}
    for name, own in takes.items():
        others = set.union(*(options for other, options in takes.items() if other != name))
        without = {key for key in others - own if key in config.model}
        config.model.encoder = name
        listed = {key for key, effect in EFFECTS.items() if key.startswith("model.") and not effect.holds(config)}
        assert listed == {f"model.{key}" for key in without}
