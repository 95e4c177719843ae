"""What a checkpoint says about any text."""

import csv
import io
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from tqdm import tqdm

from rnn_imdb.common.console import one_line, shows_colours
from rnn_imdb.common.errors import UserError, allow
from rnn_imdb.data.cache import Encoding, divide
from rnn_imdb.data.reviews import Review
from rnn_imdb.data.sources import make_source
from rnn_imdb.data.splits import review_ids, text_ids
from rnn_imdb.data.tables import TEXTS, Table
from rnn_imdb.data.text import PAD_INDEX, tokenize, words_at
from rnn_imdb.insight.explanation import Explanation, explain
from rnn_imdb.insight.explanation_text import coloured_text, plain_text
from rnn_imdb.insight.quality import CLASSES
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.training.announce import chosen_scan
from rnn_imdb.training.checkpoint import Checkpoint, data_settings, open_checkpoint, refuse_seen

# the columns that a table gets
ANSWERS = ("p_positive", "predicted")


@dataclass(frozen=True)
class Prediction:
    """What a model says about one text, and how many tokens it has, the vocabulary knows, and the model read."""

    label: str
    probability: float
    words: int
    known_words: int
    read_words: int
    explanation: Explanation | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "explanation"}
        return values | (self.explanation.as_dict() if self.explanation else {})


class OpenedModel(Checkpoint):
    """A checkpoint that judges texts."""

    @overload
    def predict(self, texts: str, *, explained: bool = False) -> Prediction: ...
    @overload
    def predict(self, texts: list[str], *, explained: bool = False) -> list[Prediction]: ...
    def predict(self, texts: Any, *, explained: bool = False) -> Any:
        """As :func:`predict`: of one text, or of each in a list."""
        found = predict(self, [texts] if isinstance(texts, str) else texts, explained=explained)
        return found[0] if isinstance(texts, str) else found


def load(name: str | Path, *, classes: Sequence[str] = ()) -> OpenedModel:
    """The model of a checkpoint or run, as ``latest``; ``classes`` are those outside of the package that it may need.

    >>> load("RUN").predict("A wonderful film.").label
    'positive'

    Raises:
        UserError: there is none, or it is no checkpoint of this project.
    """
    allow(*classes)
    return OpenedModel(**vars(open_checkpoint(name)))


def predict(checkpoint: Checkpoint, texts: Sequence[str], *, explained: bool = False) -> list[Prediction]:
    """Predictions for ``texts``, in their order, with an explanation of each where ``explained``.

    Raises:
        UserError: a text has no words, the weights are no finite numbers, or the scan has no code for a CPU.

    >>> from rnn_imdb.training.checkpoint import open_checkpoint
    >>> checkpoint = open_checkpoint("RUN")
    >>> (found,) = predict(checkpoint, ["A wonderful film."])
    >>> found.label, found.words
    ('positive', 4)
    """
    classifier = _classifier(checkpoint)
    predictions = []
    for text in texts:
        words = tokenize(text)
        if not words:
            raise UserError(f"a text must have at least one word, got {one_line(text, 40)!r}: give a review to judge")
        numbers, tokens = _encoded(checkpoint, words)
        (probability,) = _probabilities(checkpoint, classifier, tokens[None])
        predictions.append(
            Prediction(
                label=CLASSES[probability > 0.5],
                probability=probability,
                words=len(words),
                known_words=checkpoint.vocabulary.count_known(words),
                read_words=int(np.count_nonzero(numbers)),
                explanation=explain(classifier, tokens, words, numbers) if explained else None,
            )
        )
    return predictions


def _classifier(checkpoint: Checkpoint) -> Classifier:
    classifier = checkpoint.classifier()
    chosen_scan(classifier, torch.device("cpu"), torch.float32)
    return classifier


def _encoded(checkpoint: Checkpoint, words: list[str]) -> tuple[np.ndarray, torch.Tensor]:
    """Which of the ``words`` is read at each step (T,), and the tokens (T,)."""
    data = checkpoint.config["data"]
    cuts = (data["sequence_length"], data["padding"], data["truncation"])
    numbers = words_at(len(words), *cuts, first=data["first_words"], last=data["last_words"])
    return numbers, torch.tensor([PAD_INDEX, *checkpoint.vocabulary.encode(words)])[numbers]


def _probabilities(checkpoint: Checkpoint, classifier: Classifier, tokens: torch.Tensor) -> list[float]:
    with torch.inference_mode():
        logits = classifier(tokens)
    if not logits.isfinite().all():
        raise UserError(
            f"a model must give finite numbers, but {checkpoint.path} gives a logit of "
            f"{logits[~logits.isfinite()][0].item()}: its training diverged, or the file was changed; name another"
        )
    return logits.sigmoid().tolist()


def complete(checkpoint: Checkpoint, table: Table, column: str | None = None) -> str:
    """``table`` with two more columns, P(positive) and the class of each review; both are empty where it has no words.

    Raises:
        UserError: as of :func:`predict`, or it has no column of texts called ``column``, or those two already.
    """
    if taken := {*ANSWERS} & {*table.columns}:
        raise UserError(f"{table.name} must have no column {min(taken)}, which is to be added: rename it")
    position, classifier = table.position("--column", column, TEXTS), _classifier(checkpoint)
    file = io.StringIO()
    writer = csv.writer(file, delimiter=table.delimiter, lineterminator="\n")
    writer.writerow([*table.columns, *ANSWERS])
    with tqdm(total=len(table.rows), desc="predicting", unit="review", leave=False, disable=None) as bar:
        for start in range(0, len(table.rows), 250):
            rows = table.rows[start : start + 250]
            words = [tokenize(row[position]) for row in rows]
            tokens = torch.stack([_encoded(checkpoint, each)[1] for each in words])
            for row, each, value in zip(rows, words, _probabilities(checkpoint, classifier, tokens), strict=True):
                writer.writerow([*row, *((f"{value:.6f}", CLASSES[value > 0.5]) if each else ("", ""))])
            bar.update(len(rows))
    return file.getvalue()


def sampled(checkpoint: Checkpoint, count: int, *, seed: int, root: str | None) -> list[Review]:
    """``count`` test reviews, drawn by ``seed``, of the data, in ``root``, of the run that left ``checkpoint``.

    Raises:
        UserError: they cannot be read, or the checkpoint was trained on one.
    """
    data = data_settings(checkpoint.config["data"], {"root": root} if root else {})
    encoding = Encoding(**{option.name: data[option.name] for option in fields(Encoding)})
    found, parts = divide(make_source(data), encoding)
    members = parts["test"]
    chosen = np.random.default_rng(seed).choice(members, min(count, len(members)), replace=False)
    reviews = [found[position] for position in chosen]
    source = checkpoint.config["data"]["source"]
    refuse_seen(checkpoint, review_ids(reviews), text_ids(reviews), "test", source)
    return reviews


def describe(
    checkpoint: Checkpoint,
    texts: Sequence[str],
    *,
    as_json: bool = False,
    explained: bool = False,
    picture: Path | None = None,
    labels: Sequence[int] = (),
) -> str:
    """Predictions for ``texts`` as JSON, or a line for each, with its explanation below it where ``explained``.

    The explanation of a single text is drawn into ``picture`` where one is given; true ``labels`` stand beside.

    Raises:
        UserError: as of :func:`predict`, or the picture cannot be written.
    """
    predictions = predict(checkpoint, texts, explained=explained or picture is not None)
    if picture:
        # matplotlib takes a second to import
        from rnn_imdb.insight.explanation_plot import write_plot

        ((prediction, text),) = zip(predictions, texts, strict=True)
        assert prediction.explanation is not None
        title = f"{prediction.label}, P(positive) = {prediction.probability:.1%}:  {text}"
        write_plot(prediction.explanation, title, picture)
    truths = [CLASSES[label] for label in labels] or [None] * len(texts)
    pairs = list(zip(predictions, truths, strict=True))
    if as_json:
        return json.dumps([each.as_dict() | ({"truth": truth} if truth else {}) for each, truth in pairs], indent=2)
    columns = max(shutil.get_terminal_size().columns, 60)
    parts = []
    for (prediction, truth), text in zip(pairs, texts, strict=True):
        known = f"{prediction.known_words:,} of {prediction.words:,} words known"
        line = f"{prediction.label}  {prediction.probability:6.1%}  {f'in truth {truth}  ' if truth else ''}{known}  "
        # of a review that nobody knows yet, more is shown
        below = textwrap.fill(one_line(text, 4 * columns), columns, initial_indent="  ", subsequent_indent="  ")
        parts.append(line.rstrip() if truth else (line + one_line(text, columns - len(line))).rstrip())
        parts += [below] if truth and not explained else []
        if explained and (found := prediction.explanation):
            parts += [coloured_text(found, columns) if shows_colours(sys.stdout) else plain_text(found), ""]
    if labels:
        parts.append(f"{sum(prediction.label == truth for prediction, truth in pairs)} of {len(labels)} right")
    if picture:
        parts.append(f"wrote {picture}")
    return "\n".join(parts).rstrip("\n")
