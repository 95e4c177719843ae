"""What of Lightning's a run takes, and what it refuses for which reason. Imports nothing heavy."""

# +trainer.NAME=VALUE: arguments of Lightning's Trainer with which a run is resumed bitwise
PASSED_ON = (
    *("benchmark", "detect_anomaly", "deterministic", "gradient_clip_algorithm"),
    *("inference_mode", "num_nodes", "profiler"),
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

# classes of lightning.pytorch.callbacks, and of those that are made from them
CALLBACKS = {
    "BaseFinetuning": "no model here has a backbone: leave it out",
    "BasePredictionWriter": "a training predicts nothing: use python -m rnn_imdb.predict",
    "BatchSizeFinder": "its trial steps change the weights: give data.batch_size=N",
    "GradientAccumulationScheduler": "schedules count on steps of one size: give trainer.accumulate_grad_batches=N",
    "LearningRateFinder": "its trial steps are not resumed: give optimizer.learning_rate, or several with -m",
    "ModelPruning": "no checkpoint can hold its masks: leave it out",
    "ModelSummary": "a run prints a summary of its own: leave it out",
    "OnExceptionCheckpoint": "last.ckpt is there after any exception: leave it out",
    "ProgressBar": "a run has bars of its own: leave it out, or give trainer.enable_progress_bar=false",
    "StochasticWeightAveraging": "its weights come after the last checkpoint: give callbacks=averaged",
    "Timer": f"{_WHOLE_EPOCHS}: interrupt the run and continue it with resume=RUN",
}
