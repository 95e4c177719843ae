"""``python -m rnn_imdb.predict``: what a checkpoint says about any text, and how each word leads there."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rnn_imdb.common.console import as_command
from rnn_imdb.common.runs import find_checkpoint
from rnn_imdb.insight.inputs import check_picture, read_texts, refuse_paths


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.predict",
        description="Say whether reviews are positive, with a model that rnn_imdb.train made.",
        epilog="Examples:\n"
        "  python -m rnn_imdb.predict latest 'A film to remember.'\n"
        "  python -m rnn_imdb.predict RUN/checkpoints/last.ckpt --json < review.txt\n"
        "  python -m rnn_imdb.predict RUN --explain 'Two hours I will never get back.'\n"
        "  python -m rnn_imdb.predict RUN --plot review.png --file review.txt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        metavar="RUN",
        help="a run (its best checkpoint): latest, the beginning of its name or its folder; or a checkpoint",
    )
    parser.add_argument("text", nargs="*", help="a review; without any, and without --file, standard input is one")
    parser.add_argument(
        "--file", action="append", default=[], metavar="F", help="a file that is one review; repeatable"
    )
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
    if given.plot:
        check_picture(given.plot, len(given.text) + len(given.file))
    # torch takes seconds to import, and a mistyped path should not wait for it
    path = find_checkpoint(given.checkpoint)
    from rnn_imdb.insight.prediction import describe
    from rnn_imdb.training.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path)
    texts = read_texts(given.text, given.file)
    print(describe(checkpoint, texts, as_json=given.json, explained=given.explain, picture=given.plot))


if __name__ == "__main__":
    main()
