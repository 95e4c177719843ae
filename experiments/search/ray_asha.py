"""Ray Tune with ASHA over the training: ``pip install 'ray[tune]'``, then ``python -m experiments.search.ray_asha``.

Further arguments are options of every trial. ASHA ends a trial at once, so it stays unfinished in the report.
"""

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from ray import tune  # pyright: ignore[reportMissingImports] not among the extras
from ray.tune.schedulers import ASHAScheduler  # pyright: ignore[reportMissingImports] not among the extras

from rnn_imdb.config.checks import check
from rnn_imdb.config.compose import compose
from rnn_imdb.config.identity import digest, reviews
from rnn_imdb.training.run import train


class Report(L.Callback):
    """Tells Ray the accuracy after each epoch."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            tune.report({"accuracy": trainer.callback_metrics["validation/accuracy"].item()})


def trial(space: dict[str, Any]) -> None:
    """One training; the test reviews stay unread."""
    chosen = [f"{key}={value}" for key, value in space["chosen"].items()]
    config = compose("train", ["test=false", "trainer.enable_progress_bar=false", *chosen, *space["options"]])
    check(config)
    train(config, Path(space["runs"], digest(config, reviews(config))), resuming=True, callbacks=[Report()])


if __name__ == "__main__":
    chosen = {"optimizer.learning_rate": tune.loguniform(1e-4, 1e-1), "model.state_dim": tune.choice([8, 16, 32])}
    # a worker runs in a folder of its own
    space = {"chosen": chosen, "options": sys.argv[1:], "runs": str(Path("experiments/runs/ray_asha").absolute())}
    tuning = tune.TuneConfig(metric="accuracy", mode="max", num_samples=8, scheduler=ASHAScheduler(grace_period=1))
    best = tune.Tuner(trial, param_space=space, tune_config=tuning).fit().get_best_result()
    print(f"best: {best.metrics['accuracy']:.2%} with {best.config['chosen']}")
