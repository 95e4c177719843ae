"""``python -m rnn_imdb.predict``: what a checkpoint says about any text."""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_imdb.cli import INTERRUPTED, fail
from rnn_imdb.console import one_line
from rnn_imdb.errors import UserError

if TYPE_CHECKING:
    from rnn_imdb.checkpoint import Checkpoint


@dataclass(frozen=True)
class Prediction:
    """What a model says about one text.

    Attributes:
        label: ``positive`` where the probability is above one half, else ``negative``.
        probability: P(positive).
        words: tokens in the text.
        known_words: those in the model's vocabulary.
        read_words: those that the model read, at most its sequence length, first or last words.
    """

    label: str
    probability: float
    words: int
    known_words: int
    read_words: int


def predict(checkpoint: "Checkpoint", texts: Sequence[str]) -> list[Prediction]:
    """Predictions for ``texts``, in their order.

    Raises:
        UserError: a text has no words.
    """
    import numpy as np
    import torch

    from rnn_imdb.text import fit_length, keep_words, tokenize

    data = checkpoint.config["data"]
    # configurations of earlier versions do not name them
    first, last = data.get("first_words"), data.get("last_words")
    classifier = checkpoint.classifier()
    predictions = []
    for text in texts:
        tokens = tokenize(text)
        if not tokens:
            raise UserError(f"a text must have at least one word, got {one_line(text, 40)!r}: give a review to judge")
        indices = np.array(checkpoint.vocabulary.encode(tokens), dtype=np.int64)
        row = fit_length(indices, data["sequence_length"], data["padding"], data["truncation"])
        rows = keep_words(row[None], data["padding"], first=first, last=last)
        with torch.inference_mode():
            probability = classifier(torch.from_numpy(rows)).sigmoid().item()
        predictions.append(
            Prediction(
                label="positive" if probability > 0.5 else "negative",
                probability=probability,
                words=len(tokens),
                known_words=checkpoint.vocabulary.count_known(tokens),
                read_words=np.count_nonzero(rows).item(),
            )
        )
    return predictions


def _read(path: str) -> str:
    """A file, or standard input for ``-``; bytes that are no UTF-8 become replacement characters."""
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"a file with a review must be readable, got {path} ({error.strerror})", exit_code=2) from error
    return content.decode("utf-8", errors="replace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.predict",
        description="Say whether reviews are positive, with a model that rnn_imdb.train made.",
        epilog="Examples:  python -m rnn_imdb.predict experiments/runs/RUN 'A film to remember.'\n"
        "           python -m rnn_imdb.predict RUN/checkpoints/last.ckpt --json < review.txt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a checkpoint, or a run folder (its best checkpoint)")
    parser.add_argument("text", nargs="*", help="a review; without any, and without --file, standard input is one")
    parser.add_argument(
        "--file", action="append", default=[], metavar="F", help="a file that is one review; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list, for programs")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = _parser().parse_intermixed_args(arguments)
    # a terminal that cannot show a character shows a question mark
    sys.stdout.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        from rnn_imdb.checkpoint import open_checkpoint

        checkpoint = open_checkpoint(given.checkpoint)
        # bytes of a command line that are no UTF-8 arrive as lone surrogates
        texts = [text.encode("utf-8", errors="replace").decode() for text in given.text]
        texts += [_read(path) for path in given.file]
        texts = texts or [_read("-")]
        predictions = predict(checkpoint, texts)
    except UserError as error:
        fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    if given.json:
        print(json.dumps([asdict(prediction) for prediction in predictions], indent=2))
        return
    width = max(shutil.get_terminal_size().columns, 60)
    for prediction, text in zip(predictions, texts, strict=True):
        line = (
            f"{prediction.label}  {prediction.probability:6.1%}  "
            f"{prediction.known_words:,} of {prediction.words:,} words known  "
        )
        print((line + one_line(text, width - len(line))).rstrip())


if __name__ == "__main__":
    main()
