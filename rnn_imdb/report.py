"""``python -m rnn_imdb.report``: what a sweep found, as tables and plots."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rnn_imdb.common.console import as_command
from rnn_imdb.common.errors import printable
from rnn_imdb.common.runs import find_run
from rnn_imdb.sweeps.leaderboard import leaderboard
from rnn_imdb.sweeps.report import write_report
from rnn_imdb.sweeps.results import read_jobs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.report",
        description="Write results.csv, summary.md (mean ± sd over seeds, best by validation) and\nplots of a sweep.",
        epilog="Examples:\n  python -m rnn_imdb.report latest\n  python -m rnn_imdb.report capacity --output capacity",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sweep", metavar="SWEEP", help="a sweep or a run: latest, the beginning of its name, or its folder"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go; default: the sweep's")
    return parser


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    given = _parser().parse_args(arguments)
    folder = find_run(given.sweep, sweeps=True)
    jobs = read_jobs(folder)
    command = shlex.join(["python", "-m", "rnn_imdb.report", *arguments])
    files = write_report(jobs, given.output or folder, title=folder.resolve().name, command=command)
    print("\n".join([f"{leaderboard(jobs)}\n", *(printable(f"wrote {path}") for path in files)]))


if __name__ == "__main__":
    main()
