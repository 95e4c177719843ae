"""``python -m rnn_imdb.predict``: what a checkpoint says about any text, and how each word leads there."""

import argparse
import codecs
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnn_imdb.common.console import as_command, one_line, shows_colours
from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import find_checkpoint

if TYPE_CHECKING:
    from rnn_imdb.insight.explanation import Explanation
    from rnn_imdb.training.checkpoint import Checkpoint

# a part of those that matplotlib knows: the others need more programs, or are of no use
PICTURES = (".png", ".pdf", ".svg", ".jpg")


@dataclass(frozen=True)
class Prediction:
    """What a model says about one text.

    Attributes:
        label: ``positive`` where the probability is above one half, else ``negative``.
        probability: P(positive).
        words: tokens in the text.
        known_words: those in the model's vocabulary.
        read_words: those that the model read, at most its sequence length, first or last words.
        explanation: what each of these did, where that was asked for.
    """

    label: str
    probability: float
    words: int
    known_words: int
    read_words: int
    explanation: "Explanation | None" = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "explanation"}
        return values | (self.explanation.as_dict() if self.explanation else {})


def predict(checkpoint: "Checkpoint", texts: Sequence[str], *, explained: bool = False) -> list[Prediction]:
    """Predictions for ``texts``, in their order, with an explanation of each where ``explained``.

    Raises:
        UserError: a text has no words, the weights are no finite numbers, or the scan has no code for a CPU.
    """
    import numpy as np
    import torch

    from rnn_imdb.data.text import PAD_INDEX, tokenize, words_at
    from rnn_imdb.insight.explanation import explain
    from rnn_imdb.training.announce import chosen_scan

    data = checkpoint.config["data"]
    classifier = checkpoint.classifier()
    chosen_scan(classifier, torch.device("cpu"), torch.float32)
    predictions = []
    for text in texts:
        words = tokenize(text)
        if not words:
            raise UserError(f"a text must have at least one word, got {one_line(text, 40)!r}: give a review to judge")
        numbers = words_at(
            len(words),
            data["sequence_length"],
            data["padding"],
            data["truncation"],
            # configurations of earlier versions do not name them
            first=data.get("first_words"),
            last=data.get("last_words"),
        )
        tokens = torch.tensor([PAD_INDEX, *checkpoint.vocabulary.encode(words)])[numbers]
        with torch.inference_mode():
            logit = classifier(tokens[None])
        if not logit.isfinite():
            raise UserError(
                f"a model must give finite numbers, but {checkpoint.path} gives a logit of {logit.item()}: its "
                "training diverged, or the file was changed; name another"
            )
        probability = logit.sigmoid().item()
        predictions.append(
            Prediction(
                label="positive" if probability > 0.5 else "negative",
                probability=probability,
                words=len(words),
                known_words=checkpoint.vocabulary.count_known(words),
                read_words=int(np.count_nonzero(numbers)),
                explanation=explain(classifier, tokens, words, numbers) if explained else None,
            )
        )
    return predictions


# what begins a text and names its encoding; UTF-32's begins with UTF-16's
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    *((mark, "utf-32") for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    *((mark, "utf-16") for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
# columns by which a table of reviews is known
_COLUMNS = {"review", "reviews", "text", "sentence", "comment", "sentiment", "label", "rating"}


def decode(content: bytes, name: str) -> str:
    """The text of the file ``name``: UTF-8, or what its byte order mark says.

    Raises:
        UserError: it is no text of that encoding, or a table of several reviews.
    """
    encoding = next((encoding for mark, encoding in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
        problem = "a NUL character" if "\0" in text else ""
    except UnicodeDecodeError as error:
        text, problem = "", f"bytes {content[error.start : error.end].hex()} at {error.start:,}"
    if problem:
        raise UserError(
            f"a review must be text in UTF-8, or in UTF-16 with a byte order mark, but {name} has {problem}: unpack or "
            "convert it first, as with iconv -f latin1 -t utf-8"
        )
    if _is_table(text):
        raise UserError(f"a file must be one review, but {name} is a table of several: give each a file of its own")
    return text


def _is_table(text: str) -> bool:
    """Whether ``text`` has a header of columns and rows below it, or an object of JSON a line."""
    first, _, rest = text.strip().partition("\n")
    names = {name.strip(" \t\r\"'").lower() for name in re.split(r"[,;\t]", first)}
    if rest and len(names) > 1 and names & _COLUMNS:
        return True
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _read(path: str) -> str:
    """A file, or standard input for ``-``."""
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"a file with a review must be readable, got {path} ({error.strerror})", exit_code=2) from error
    return decode(content, "standard input" if path == "-" else path)


def _refuse_paths(texts: Sequence[str]) -> None:
    """Judge no file by its name."""
    for text in texts:
        try:
            there = Path(text).exists()
        except PermissionError:
            # where nobody may look, a path is known by its separator
            there = os.sep in text
        except (OSError, ValueError):
            # no path at all
            continue
        if text.strip() and there:
            raise UserError(
                f"a review must be given as its text, but {text} is a file or folder: give --file {text} for what is "
                "in it (of several run folders name one)",
                exit_code=2,
            )


def _check_picture(path: Path, texts: int) -> None:
    """Refuse what would fail only after all the work.

    Raises:
        UserError: it is not one text, or ``path`` cannot be written or has an extension of no picture.
    """
    if texts > 1:
        raise UserError(f"--plot must be about one text, got {texts}: give one, or leave --plot out", exit_code=2)
    ends = f"{', '.join(PICTURES[:-1])} or {PICTURES[-1]}"
    try:
        if path.suffix.lower() not in PICTURES:
            problem = f"end in {ends}, got {path}: choose one of them"
        elif path.exists() and not path.is_file():
            problem = f"be a file, got {path}, which is none: choose another name"
        elif not path.parent.is_dir():
            problem = f"be in a folder that exists, got {path}: make {path.parent} first"
        elif not os.access(path.parent, os.W_OK):
            problem = f"be in a folder that can be written, got {path}: choose another"
        else:
            return
    except OSError as error:
        problem = f"be the name of a file, got {path} ({error.strerror}): choose another"
    raise UserError(f"--plot must {problem}", exit_code=2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rnn_imdb.predict",
        description="Say whether reviews are positive, with a model that rnn_imdb.train made.",
        epilog="Examples:\n"
        "  python -m rnn_imdb.predict experiments/runs/RUN 'A film to remember.'\n"
        "  python -m rnn_imdb.predict RUN/checkpoints/last.ckpt --json < review.txt\n"
        "  python -m rnn_imdb.predict RUN --explain 'Two hours I will never get back.'\n"
        "  python -m rnn_imdb.predict RUN --plot review.png --file review.txt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a checkpoint, or a run folder (its best checkpoint)")
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
    _refuse_paths(given.text)
    if given.plot:
        _check_picture(given.plot, len(given.text) + len(given.file))
    # torch takes seconds to import, and a mistyped path should not wait for it
    path = find_checkpoint(given.checkpoint)
    from rnn_imdb.training.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(path)
    # bytes of a command line that are no UTF-8 arrive as lone surrogates
    texts = [text.encode("utf-8", errors="replace").decode() for text in given.text]
    texts += [_read(path) for path in given.file]
    texts = texts or [_read("-")]
    predictions = predict(checkpoint, texts, explained=given.explain or given.plot is not None)
    if given.plot:
        _draw(predictions[0], texts[0], given.plot)
    if given.json:
        output = json.dumps([prediction.as_dict() for prediction in predictions], indent=2)
    else:
        output = _text(predictions, texts, explained=given.explain, picture=given.plot)
    print(output)


def _draw(prediction: Prediction, text: str, path: Path) -> None:
    from rnn_imdb.insight.explanation_plot import write_plot

    assert prediction.explanation is not None
    title = f"{prediction.label}, P(positive) = {prediction.probability:.1%}:  {text}"
    write_plot(prediction.explanation, title, path)


def _text(predictions: Sequence[Prediction], texts: Sequence[str], *, explained: bool, picture: Path | None) -> str:
    """A line for each prediction, with its explanation below it where ``explained``."""
    columns = max(shutil.get_terminal_size().columns, 60)
    parts = []
    for prediction, text in zip(predictions, texts, strict=True):
        line = (
            f"{prediction.label}  {prediction.probability:6.1%}  "
            f"{prediction.known_words:,} of {prediction.words:,} words known  "
        )
        parts.append((line + one_line(text, columns - len(line))).rstrip())
        if explained and prediction.explanation:
            from rnn_imdb.insight.explanation_text import coloured_text, plain_text

            if shows_colours(sys.stdout):
                parts.append(coloured_text(prediction.explanation, columns))
            else:
                parts.append(plain_text(prediction.explanation))
            parts.append("")
    if picture:
        parts.append(f"wrote {picture}")
    return "\n".join(parts).rstrip("\n")


if __name__ == "__main__":
    main()
