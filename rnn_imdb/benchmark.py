"""``python -m rnn_imdb.benchmark``: how fast the scan is, and one epoch, beside torch.nn.RNN and Keras."""

from omegaconf import DictConfig

from rnn_imdb.cli import run_hydra
from rnn_imdb.config import check


def task(config: DictConfig) -> None:
    """Measure as ``config`` says, print one table and write it as CSV."""
    check(config)
    from rnn_imdb import session
    from rnn_imdb.benchmarks import epochs, scans
    from rnn_imdb.benchmarks.table import machine, report

    session.start(seed=0)
    print(machine())
    if config.epoch:
        rows = epochs.measure(config, repeats=config.repeats)
    else:
        rows = scans.measure(config.batch_sizes, config.state_dims, config.time, seconds=config.seconds)
    report(rows, config.output or f"benchmark_{'epoch' if config.epoch else 'scan'}.csv")


def main() -> None:
    run_hydra("benchmark", task)


if __name__ == "__main__":
    main()
