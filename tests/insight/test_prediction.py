"""Texts judged by a checkpoint, from the command line, files and standard input; and what is no review."""

import csv
import gzip
import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST
from rnn_imdb.data.archive import AclImdbReviews
from rnn_imdb.insight.inputs import _is_table
from rnn_imdb.insight.prediction import predict, sampled
from rnn_imdb.predict import main as predict_command
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.evaluation import refuse_seen
from rnn_imdb.training.trainer import build_data

pytestmark = pytest.mark.usefixtures("places")


def test_prediction_reads_the_words_of_the_training(trained: Path) -> None:
    opened = open_checkpoint(trained)
    opened.config["data"]["first_words"] = 5
    short, long = predict(opened, ["the film of a wonderful", "the film of a wonderful music and dull plot"])
    assert (short.probability, short.read_words) == (long.probability, long.read_words)
    assert (long.read_words, long.words) == (5, 9)


def test_predictions_follow_the_words(trained: Path) -> None:
    good, bad = predict(open_checkpoint(trained), ["A wonderful, superb film. Moving!", "awful plot, boring and dull"])
    assert (good.label, bad.label) == ("positive", "negative")
    assert good.probability > 0.5 > bad.probability
    assert (good.words, good.known_words) == (8, 7)


def test_prediction_equals_the_batch_of_training(trained: Path, small_data: dict[str, Any]) -> None:
    opened = open_checkpoint(trained)
    data = build_data(small_data, vocabulary=opened.vocabulary)
    tokens = torch.from_numpy(data.split("test").tokens[:5].astype(np.int64))
    texts = [" ".join(opened.vocabulary.decode(row[row > 0].tolist())) for row in tokens]
    with torch.inference_mode():
        expected = opened.classifier()(tokens).sigmoid()
    actual = [prediction.probability for prediction in predict(opened, texts)]
    torch.testing.assert_close(torch.tensor(actual), expected)


@pytest.mark.parametrize(
    "text",
    ["naïve café 🎬 فيلم 映画", "\x00\x1b[31mred", "<pad> <unk>", "\ud800 lone", "a" * 100_000, "word " * 100_000],
)
def test_any_text_gets_an_answer(trained: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    predict_command([str(trained), text])
    printed = capsys.readouterr().out
    assert printed.startswith(("positive", "negative"))
    assert printed.count("\n") == 1
    assert "\x1b" not in printed


@pytest.mark.parametrize("text", ["", "  \n\t ", '""'])
def test_text_without_words_is_a_clear_error(trained: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        predict_command([str(trained), text])
    assert "must have at least one word" in capsys.readouterr().err


REVIEW = "brilliant and touching film, naïve \N{EN DASH} but moving"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_predict_reads_files_and_standard_input(
    trained: Path, encoding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = REVIEW.encode(encoding)
    (tmp_path / "review.txt").write_bytes(content)
    predict_command([str(trained), "--json", "--file", str(tmp_path / "review.txt"), "dull", REVIEW])
    dull, given, read = json.loads(capsys.readouterr().out)
    assert (dull["label"], read) == ("negative", given)
    assert set(read) == {"label", "probability", "words", "known_words", "read_words"}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    predict_command([str(trained), "--json"])
    assert json.loads(capsys.readouterr().out) == [given]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (REVIEW.encode("latin-1", errors="replace"), "has bytes ef: unpack or convert"),
        (REVIEW.encode("utf-16")[2:], "must be text in UTF-8"),
        (REVIEW.encode("utf-16")[:-1], "must be text in UTF-8"),
        (gzip.compress(REVIEW.encode(), mtime=0)[:-9], "must be whole"),
        (b"a\0b", "has a NUL character"),
        (b'{"text": "brilliant"}\n{"text": "dull"}\n', "is JSON: make a CSV of it"),
        (b"review,id\nbrilliant,1,2\n", "every row must be whole, but that on line 2"),
    ],
    ids=["latin-1", "no mark", "odd", "gzip", "NUL", "JSON", "CSV"],
)
def test_file_that_is_no_review_is_not_judged(
    trained: Path, content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "review").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    for name, options in ((str(tmp_path / "review"), ["--file", str(tmp_path / "review")]), ("standard input", [])):
        with pytest.raises(SystemExit, match="1"):
            predict_command([str(trained), *options])
        captured = capsys.readouterr()
        assert message in captured.err
        assert name in captured.err
        assert captured.out == ""


def test_review_that_looks_like_a_table_or_a_path_is_judged(trained: Path) -> None:
    for text in (
        "Review\nbrilliant",
        "A review, a text; both brilliant",
        "{brilliant}",
        "[1, 2]",
        "Review, text\n",
        "/",
        "1",
    ):
        assert not _is_table(text, "-")


ROWS = [["Id", "Review", "note"], ["07", REVIEW, ""], ["2", 'a "dull",\nboring film', "x;y"], ["3", " ", "NA"]]


@pytest.mark.parametrize(("delimiter", "column"), [(",", None), ("\t", None), (";", "review"), (",", "note")])
def test_table_gets_columns_of_answers_and_keeps_the_others(
    trained: Path, delimiter: str, column: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, output = tmp_path / "reviews.csv", tmp_path / "judged.csv"
    with file.open("w", encoding="utf-8-sig", newline="") as text:
        csv.writer(text, delimiter=delimiter).writerows(ROWS)
    before = file.read_bytes()
    options = [str(trained), "--file", str(file), *(["--column", column] if column else [])]
    predict_command(options)
    printed = capsys.readouterr().out
    found = list(csv.reader(io.StringIO(printed, newline=""), delimiter=delimiter))
    assert [row[:3] for row in found] == ROWS
    assert found[0][3:] == ["p_positive", "predicted"]
    if column == "note":
        assert [bool(row[4]) for row in found[1:]] == [False, True, True]
    else:
        judged = predict(open_checkpoint(trained), [row[1] for row in ROWS[1:3]])
        assert found[1:] == [
            *([*row, f"{each.probability:.6f}", each.label] for row, each in zip(ROWS[1:3], judged, strict=True)),
            [*ROWS[3], "", ""],
        ]
    predict_command([*options, "--output", str(output)])
    assert output.read_bytes().decode() == printed
    for name in (file, output, tmp_path / "no" / "folder.csv"):
        with pytest.raises(SystemExit, match="2"):
            predict_command([*options, "--output", str(name)])
        assert f"must be a new file in a folder, got {name}: name another" in capsys.readouterr().err
    assert (file.read_bytes(), output.read_bytes().decode()) == (before, printed)
    for more, message in (
        (["dull"], "must be given alone"),
        (["--json"], "--explain and --plot are about texts"),
        (["--column", "body"], "one column of .* must be called body, got Id, Review, note"),
    ):
        with pytest.raises(SystemExit):
            predict_command([*options, *more])
        assert re.search(message, capsys.readouterr().err)
    with pytest.raises(SystemExit):
        predict_command([str(trained), "--file", str(output), *(["--column", column] if column else [])])
    assert "must have no column p_positive, which is to be added: rename it" in capsys.readouterr().err


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_judge_nothing(
    trained: Path, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(trained / BEST, weights_only=True)
    content["state_dict"]["classifier.head.bias"].fill_(value)
    torch.save(content, tmp_path / "diverged.ckpt")
    for options in ([], ["--json"], ["--explain"]):
        with pytest.raises(SystemExit, match="1"):
            predict_command([str(tmp_path / "diverged.ckpt"), "brilliant", *options])
        captured = capsys.readouterr()
        assert f"gives a logit of {value}" in captured.err
        assert captured.out == ""


def test_name_of_a_file_is_no_review(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, trained / "metrics.json"):
        with pytest.raises(SystemExit, match="2"):
            predict_command([str(trained), "brilliant", str(path)])
        assert f"but {path} is a file or folder: give --file {path}" in capsys.readouterr().err


def test_missing_file_is_a_clear_error(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict_command([str(trained), "--file", "nowhere.txt"])
    assert "must be readable, got nowhere.txt (No such file" in capsys.readouterr().err


def test_sample_is_of_the_test_reviews_with_their_class(
    trained: Path, small_archive: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_checkpoint(trained)
    every = sampled(opened, 999, seed=0, root=None)
    tested = {review.text: review.label for review in AclImdbReviews(small_archive, 40).read() if review.half == "test"}
    assert {review.text: review.label for review in every} == tested
    predict_command([str(trained), "--sample", "80", "--json"])
    answers = json.loads(capsys.readouterr().out)
    right = [answer["label"] == answer["truth"] for answer in answers]
    assert [answer["truth"] for answer in answers] == [("negative", "positive")[review.label] for review in every]
    accuracy = json.loads((trained / "metrics.json").read_text())["test/accuracy"]
    assert sum(right) / 80 == pytest.approx(accuracy)
    predict_command([str(trained), "--sample", "80"])
    assert capsys.readouterr().out.endswith(f"\n{sum(right)} of 80 right\n")
    first, second = (sampled(opened, 2, seed=seed, root=str(small_archive)) for seed in (1, 2))
    assert first != second
    assert first == sampled(opened, 2, seed=1, root=None)
    monkeypatch.delenv("IMDB_ROOT")
    with pytest.raises(SystemExit, match="2"):
        predict_command([str(trained), "--sample", "1"])
    assert "in predict --root PATH" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"test reviews must be none that .* was trained on 2 of these 2: choose other"):
        refuse_seen(opened, opened.training_ids[:2], opened.training_texts[:2], "test", "aclimdb")


def test_each_line_that_is_typed_is_judged_and_explained(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('a superb film\n\n""\nawful and dull\n'))
    predict_command([str(trained), "-i"])
    printed = capsys.readouterr()
    judged = [line.split()[0] for line in printed.out.splitlines() if "words known" in line]
    assert judged == ["positive", "negative"]
    assert printed.out.count("superb") == 2
    assert printed.err.count("error: a text must have at least one word") == 1


@pytest.mark.parametrize(
    "options",
    [["-i", "a film"], ["-i", "--json"], ["--sample", "1", "a film"], ["--sample", "0"], ["--sample", "1", "-i"]],
    ids=" ".join,
)
def test_reviews_come_from_one_place(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        predict_command(["nowhere", *options])
    assert re.search("reviews are texts and files, or|--sample must be at least 1", capsys.readouterr().err)
