"""Optuna with a pruner over the training: ``pip install optuna``, then ``python -m experiments.search.optuna_pruner``.

Further arguments are options of every trial. ``python -m rnn_imdb.report experiments/runs/optuna_pruner`` shows them.
"""

import sys
from pathlib import Path

import lightning.pytorch as L
import optuna  # pyright: ignore[reportMissingImports] not among the extras

from rnn_imdb.config.checks import check
from rnn_imdb.config.compose import compose
from rnn_imdb.config.identity import digest, reviews
from rnn_imdb.training.run import train

RUNS = Path("experiments/runs/optuna_pruner")


class Prune(L.Callback):
    """Lets a trial that falls behind end after its epoch, so that it leaves its figures too."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial, self.pruned = trial, False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self.trial.report(trainer.callback_metrics["validation/accuracy"].item(), trainer.current_epoch)
            self.pruned = self.trial.should_prune()
            trainer.should_stop |= self.pruned


def accuracy(trial: optuna.Trial) -> float:
    """The validation accuracy of a trial; the test reviews stay unread."""
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    size = trial.suggest_categorical("state_dim", [8, 16, 32])
    chosen = [f"optimizer.learning_rate={rate}", f"model.state_dim={size}"]
    config = compose("train", ["test=false", *chosen, *sys.argv[1:]])
    check(config)
    folder = RUNS / digest(config, reviews(config))
    prune = Prune(trial)
    metrics = train(config, folder, resuming=True, callbacks=[prune])
    if prune.pruned:
        raise optuna.TrialPruned
    return metrics["validation/accuracy"]


if __name__ == "__main__":
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0), pruner=pruner)
    study.optimize(accuracy, n_trials=8)
    print(f"best of {len(study.trials)} trials: {study.best_value:.2%} with {study.best_params}")
