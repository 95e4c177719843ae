"""``python -m rnn_imdb.train``: train a model, score its best epoch, and leave a run folder behind."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from rnn_imdb.cli import run_hydra


def task(config: DictConfig) -> None:
    """Train as ``config`` says, in the run folder that Hydra chose."""
    # torch and Lightning take seconds to import, and a mistyped option should not wait for them
    from rnn_imdb.training import train

    train(config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    run_hydra("train", task)


if __name__ == "__main__":
    main()
