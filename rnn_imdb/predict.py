"""``python -m rnn_imdb.predict``: what a checkpoint says about any text, and how each word leads there."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rnn_imdb.common.console import as_command, waiting
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import write_atomically
from rnn_imdb.common.runs import find_checkpoint
from rnn_imdb.data.tables import Table
from rnn_imdb.insight.inputs import check_picture, read_texts, refuse_paths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.predict",
        description="Say whether reviews are positive, with a model that rnn_imdb.train made.",
        epilog="Examples:\n"
        "  python -m rnn_imdb.predict latest 'The acting is excellent.'\n"
        "  python -m rnn_imdb.predict latest -i\n"
        "  python -m rnn_imdb.predict RUN --sample 3\n"
        "  python -m rnn_imdb.predict RUN/checkpoints/last.ckpt --json < review.txt\n"
        "  python -m rnn_imdb.predict RUN --explain 'A dull, predictable film.'\n"
        "  python -m rnn_imdb.predict RUN --plot review.png --file review.txt\n"
        "  python -m rnn_imdb.predict RUN --file reviews.csv --output judged.csv",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        metavar="RUN",
        help="a run (its best checkpoint): latest, the beginning of its name or its folder; or a checkpoint",
    )
    parser.add_argument("text", nargs="*", help="a review; without any, and without --file, standard input is one")
    parser.add_argument(
        "--file", action="append", default=[], metavar="F", help="a file that is one review; or one table of them"
    )
    parser.add_argument("--column", metavar="NAME", help="where a table has its texts; default: review, text, ...")
    parser.add_argument("--output", type=Path, metavar="F", help="a new file for the table with the answers")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="N test reviews of the run's data, with their true class"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="another seed, other reviews; default: 0")
    parser.add_argument("--root", metavar="PATH", help="where those lie: as data.root in a training")
    parser.add_argument(
        "--class", dest="classes", action="append", default=[], help="one of your own that the model needs; repeatable"
    )
    parser.add_argument("-i", "--interactive", action="store_true", help="judge and explain each line that you type")
    parser.add_argument("--json", action="store_true", help="print a JSON list, for programs")
    parser.add_argument("--explain", action="store_true", help="show how each word leads to the decision")
    parser.add_argument(
        "--plot", type=Path, metavar="PICTURE", help="draw that for one review (.png, .pdf, .svg, .jpg)"
    )
    return parser


@as_command()
def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_intermixed_args(arguments)
    refuse_paths(given.text)
    if given.sample is not None and (given.sample < 1 or given.seed < 0):
        raise UserError(
            f"--sample must be at least 1 and --seed at least 0, got {given.sample} and {given.seed}", exit_code=2
        )
    several = [bool(given.text or given.file), given.sample is not None, given.interactive]
    if sum(several) > 1 or (given.interactive and (given.json or given.plot)):
        raise UserError(
            "reviews are texts and files, or those of --sample, or what is typed with -i (without --json and --plot): "
            "leave the others out",
            exit_code=2,
        )
    if given.plot:
        check_picture(given.plot, given.sample or len(given.text) + len(given.file))
    if given.output and (given.output.exists() or not given.output.parent.is_dir()):
        raise UserError(f"--output must be a new file in a folder, got {given.output}: name another", exit_code=2)
    # torch takes seconds to import, and a mistyped path should not wait for it
    path = find_checkpoint(given.checkpoint)
    with waiting("importing torch"):
        from rnn_imdb.insight.prediction import complete, describe, load, sampled

    checkpoint = load(path, classes=given.classes)
    if given.interactive:
        _talk(lambda text: describe(checkpoint, [text], explained=True))
        return
    labels: Sequence[int] = ()
    if given.sample:
        texts, labels, _ = zip(*sampled(checkpoint, given.sample, seed=given.seed, root=given.root), strict=True)
    else:
        texts = read_texts(given.text, given.file, given.column)
    if isinstance(texts, Table) and not (given.json or given.explain or given.plot):
        completed = complete(checkpoint, texts, given.column)
        if given.output:
            write_atomically(given.output, completed.encode())
        print(f"wrote {given.output}" if given.output else completed, end="\n" if given.output else "")
        return
    if isinstance(texts, Table) or given.output:
        raise UserError(
            "--output is about a table of reviews, and --json, --explain and --plot are about texts: give only those",
            exit_code=2,
        )
    shown = {"as_json": given.json, "explained": given.explain, "picture": given.plot, "labels": labels}
    print(describe(checkpoint, texts, **shown))


def _talk(answer: Callable[[str], str]) -> None:
    """Answer each line of standard input until it ends; in a terminal, the arrow keys bring lines back."""
    # input uses it; Windows has none, and arrow keys of its own
    with suppress(ModuleNotFoundError):
        import readline  # noqa: F401

    prompt = "> " if sys.stdin.isatty() else ""
    if prompt:
        print("type a review a line; Ctrl-D ends")
    with suppress(EOFError):
        while True:
            text = input(prompt)
            try:
                print(answer(text) if text.strip() else "", flush=True)
            except UserError as error:
                print(f"error: {error}", file=sys.stderr)
    print(end="\n" if prompt else "")


if __name__ == "__main__":
    main()
