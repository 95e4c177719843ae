"""``python -m rnn_imdb.report``: what a sweep found, as tables and plots."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_imdb.common.console import as_command
from rnn_imdb.common.errors import printable
from rnn_imdb.sweeps.leaderboard import leaderboard
from rnn_imdb.sweeps.report import write_report
from rnn_imdb.sweeps.results import read_jobs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.report",
        description="Write results.csv, summary.md (mean ± sd over seeds, best by validation) and\nplots of a sweep.",
        epilog="Examples:\n"
        "  python -m rnn_imdb.report experiments/runs/capacity\n"
        "  python -m rnn_imdb.report experiments/runs/capacity --output capacity",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", type=Path, metavar="SWEEP_FOLDER", help="a folder of run folders, or one run folder")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go; default: SWEEP_FOLDER")
    return parser


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    jobs = read_jobs(given.sweep)
    command = shlex.join(["python", "-m", "rnn_imdb.report", *arguments])
    files = write_report(jobs, given.output or given.sweep, title=given.sweep.resolve().name, command=command)
    print("\n".join([f"{leaderboard(jobs)}\n", *(printable(f"wrote {path}") for path in files)]))


if __name__ == "__main__":
    main()
