"""``python -m rnn_imdb.report``: what a sweep found, as tables and plots; one as it runs; two side by side."""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rnn_imdb.common.console import as_command
from rnn_imdb.common.errors import printable
from rnn_imdb.common.runs import find_run
from rnn_imdb.sweeps.leaderboard import side_by_side, standings
from rnn_imdb.sweeps.report import write_report
from rnn_imdb.sweeps.results import Job, read_jobs, tally


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.report",
        description="Write results.csv, summary.md (mean ± sd over seeds, best by validation) and\nplots of a sweep.",
        epilog="Examples:\n  python -m rnn_imdb.report latest\n  python -m rnn_imdb.report capacity --output capacity\n"
        "  python -m rnn_imdb.report latest --watch\n  python -m rnn_imdb.report before after",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    help_of_sweep = "a sweep or a run: latest, the beginning of its name, or its folder"
    parser.add_argument("sweep", metavar="SWEEP", help=help_of_sweep)
    parser.add_argument("other", nargs="?", metavar="OTHER", help="a sweep to print beside it; no file is written")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the files go; default: the sweep's")
    parser.add_argument("--watch", action="store_true", help="show the sweep until its last job has ended")
    return parser


def watch(sweep: Path) -> list[Job]:
    """Show a sweep until no job is planned, runs or is unfinished, and return its jobs.

    A terminal is drawn anew whenever something changed; elsewhere, as in a log, a line says what.
    """
    before = ""
    while True:
        started = time.monotonic()
        jobs = read_jobs(sweep, planned=True)
        if before != (ends := tally(jobs)):
            terminal = sys.stdout.isatty()
            print(f"\x1b[H\x1b[J{standings(jobs)}\n" if terminal else time.strftime("%H:%M:%S"), ends, flush=True)
        before = ends
        if not any(job.status in ("planned", "running", "unfinished") for job in jobs):
            return jobs
        # a large sweep takes seconds to read
        time.sleep(max(2.0, 10 * (time.monotonic() - started)))


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    given = parser.parse_args(arguments)
    folder = find_run(given.sweep, sweeps=True)
    if given.other is not None:
        if given.watch or given.output:
            parser.error("two sweeps are printed and no more: leave out --watch and --output")
        other = find_run(given.other, sweeps=True)
        print(f"A  {printable(str(folder))}\nB  {printable(str(other))}\n")
        print(side_by_side(read_jobs(folder), read_jobs(other)))
        return
    jobs = watch(folder) if given.watch else read_jobs(folder, planned=True)
    if all(job.status == "planned" for job in jobs):
        print(f"no job of {printable(str(folder))} has begun yet: {tally(jobs)}")
        return
    command = shlex.join(["python", "-m", "rnn_imdb.report", *arguments])
    files = write_report(jobs, given.output or folder, title=folder.resolve().name, command=command)
    print(f"{standings(jobs)}\n\njobs: {tally(jobs)}", *(printable(f"wrote {path}") for path in files), sep="\n")


if __name__ == "__main__":
    main()
