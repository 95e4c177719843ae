"""Reviews in a file of one's own: CSV and TSV of many kinds, and what is wrong with those that cannot be read."""

import csv
import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REVIEWS_PER_CLASS
from hypothesis import given
from hypothesis import strategies as st

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import BEST
from rnn_imdb.data.archive import AclImdbReviews
from rnn_imdb.data.cache import Encoding, divide
from rnn_imdb.data.reviews import Review
from rnn_imdb.data.sources import make_source
from rnn_imdb.data.splits import text_ids
from rnn_imdb.data.tables import TableReviews, parse_table
from rnn_imdb.training.checkpoint import open_checkpoint
from rnn_imdb.training.evaluation import evaluate

GOOD, BAD = Review("A good film.", 1), Review("A bad one.", 0)


def read(folder: Path, content: str | bytes, **options: Any) -> list[Review]:
    path = folder / "reviews.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return make_source({"source": "csv", "root": str(path), **options}).read()


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("review,sentiment\nA good film.,positive\nA bad one.,negative\n", {}),
        ("Review\tLabel\nA good film.\tpos\nA bad one.\tNEG\n", {}),
        ("id;text;class\n1;A good film.;1\n2;A bad one.;0\n", {}),
        ("id,label,sentence,id\n1,True,A good film.,1\n2,False,A bad one.,2", {}),
        ("\ufeffreview,sentiment\r\n\r\nA good film.,1\r\nA bad one.,0\r\n\r\n", {}),
        ("review,sentiment\rA good film.,1\rA bad one.,0\r", {}),
        ("review,sentiment\nA good film.,1\nA bad one.,0\n".encode("utf-16"), {}),
        (gzip.compress(b"review,sentiment\nA good film.,1\nA bad one.,0\n", mtime=0), {}),
        ("text,rating\nA good film.,7.5\nA bad one.,7\n", {"threshold": 7}),
        ("quote,verdict,text\nA good film.,1,x\nA bad one.,0,y\n", {"text_column": "Quote", "label_column": "verdict"}),
    ],
    ids=["CSV", "TSV", "semicolons", "more columns", "mark and CRLF", "CR", "UTF-16", "gzip", "ratings", "named"],
)
def test_tables_of_every_kind_hold_the_same_reviews(
    content: str | bytes, options: dict[str, Any], tmp_path: Path
) -> None:
    assert read(tmp_path, content, **options) == [GOOD, BAD]


def test_texts_stay_as_they_are(tmp_path: Path) -> None:
    text = ' "Fine", she said.<br /><br />\r\nIt\tcost 5" \N{EM DASH} na\u00efve; \u2028 ' + "long " * 50_000
    content = io.StringIO(newline="")
    csv.writer(content).writerows([("review", "label"), (text, 1), ("bad", 0)])
    assert read(tmp_path, content.getvalue()) == [Review(text, 1), Review("bad", 0)]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(
    rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1), delimiter=st.sampled_from(",\t;|"),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)  # fmt: skip
def test_what_csv_writes_is_read_back(rows: list[list[str]], delimiter: str, end: str) -> None:
    content = io.StringIO(newline="")
    writer = csv.writer(content, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "text", "label"], *rows])
    table = parse_table(content.getvalue(), "table")
    assert (table.columns, table.rows, table.delimiter) == (["id", "text", "label"], rows, delimiter)
    written = content.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    # each row begins on its line
    assert all(written[line - 1].startswith('"') for line in table.lines)


TWO = "review,label\nA good film.,1\nA bad one.,0\n"


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, r"must have a line of names and rows below, but .*reviews\.csv has 0"),
        ("review,label\n", {}, ".*csv has 1 in all: add them"),
        ("A good film.,1\nA bad one.,0\n", {}, r"called review or .*, got A good film\., 1 on line 1.*text_column"),
        ("review,id\nx,1\ny,2\n", {}, r"called sentiment or label .*got review, id on line 1.*data\.label_column"),
        ("review,review,label\nx,y,1\n", {}, "one column of .* must be called review, got review, review, label"),
        (TWO, {"text_column": "body"}, "one column of .* must be called body, got review, label"),
        (TWO, {"split_column": "part"}, r"must be called part, got .*with data\.split_column"),
        ("review,label\n\nfine,1\nodd,maybe\n", {}, r"a label must be one of 0, neg, .*got 'maybe' on line 4 of .*csv"),
        ("review,stars\nfine,4\nodd,1\n", {}, r"got '4' on line 2 .*data\.threshold=N"),
        ("review,stars\nfine,4\nodd,many\n", {"threshold": 3}, "a rating must be a number, got 'many' on line 3"),
        ("review,stars\nfine,4\nodd,nan\n", {"threshold": 3}, "a rating must be a number, got 'nan' on line 3"),
        ('review,label\n"two\nlines",1\n <br /> ,0\n', {}, "at least one word, got ' <br /> ' on line 4"),
        ("review,label\nfine,1\ngood,1\n", {}, "must be of both classes, but all 2 of .* are of class 1"),
        ("review,label\nfine, but long,1\nbad,0\n", {}, "on line 2 .* is not .it has 3 fields, and the first has 2"),
        ('review,label\n"fine,1\nbad,0\n', {}, r"on line 2 .* is not \(unexpected end of data\): put quotes"),
        ('review,label\nbad,0\n"fine" film,1\n', {}, "on line 3 .* is not .*expected after.*double those within"),
        (TWO.replace("good", "caf\u00e9").encode("latin-1"), {}, "line 2 of .* has bytes e9: .*iconv"),
        (TWO.replace("bad", "b\0d"), {}, "line 3 of .* has a NUL character"),
        (TWO.encode("utf-16")[:-1], {}, "line 3 of .* has bytes 0a"),
        (b"PK\x03\x04" + bytes(99), {}, "line 1 of .* has a NUL character: unpack"),
        (gzip.compress(TWO.encode() * 99, mtime=0)[:-20], {}, "must be whole, but .*ended before.*: get it again"),
        ("review,label,split\nx,1,train\ny,0,extra\n", {}, "a split must be one of train, .*got 'extra' on line 3"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(
    content: str | bytes, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, content, **options)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.csv", Path("/dev/null")):
        source = TableReviews(path)
        for use in (source.read, source.fingerprint):
            with pytest.raises(UserError, match=rf"data=csv reads a file, got data\.root={path}: name a file that"):
                use()
    with pytest.raises(UserError, match=r"got data\.root=None: name a file that exists"):
        make_source({"source": "csv"}).read()
    with pytest.raises(UserError, match=r"without data\.threshold, got data\.threshold=3: .*give data=csv"):
        make_source({"source": "embedded", "threshold": 3})


def table(folder: Path, rows: list[tuple[str, ...]]) -> TableReviews:
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return TableReviews(folder / "table.csv")


def test_copies_of_a_text_stay_in_one_split(tmp_path: Path) -> None:
    texts = [f"film {i}.<br /><br />A  line" for i in range(100)]
    texts += [text.replace("<br /><br />", "\n<BR>").replace("  ", " ") for text in texts]
    rows = [("review", "label"), *((text, str(i % 2)) for i, text in enumerate(texts))]
    reviews, parts = divide(table(tmp_path, rows), Encoding())
    assert {name: len(part) for name, part in parts.items()} == {"train": 160, "validation": 20, "test": 20}
    found = {name: text_ids([reviews[i] for i in part]) for name, part in parts.items()}
    assert all(set(Counter(ids.tolist()).values()) == {2} for ids in found.values())
    assert len(np.unique(np.concatenate(list(found.values())))) == 100


def test_splits_that_a_column_names_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    halves = ["train"] * 10 + ["Test"] * 4
    rows = [("text", "label", "split"), *((f"film {i}", str(i % 2), half) for i, half in enumerate(halves))]
    _, parts = divide(table(tmp_path, rows), Encoding())
    assert {name: len(part) for name, part in parts.items()} == {"train": 8, "validation": 2, "test": 4}
    assert capsys.readouterr().out == ""
    # what stands in the test too is no training
    rows += [("film  12", "0", "train"), ("film 13", "1", "dev"), ("film 99", "1", "valid")]
    reviews, parts = divide(table(tmp_path, rows), Encoding())
    assert {name: len(part) for name, part in parts.items()} == {"train": 10, "validation": 1, "test": 4}
    assert reviews[parts["validation"][0]].text == "film 99"
    assert "left out 2 reviews of" in capsys.readouterr().out


def test_the_fingerprint_tells_other_reviews(tmp_path: Path) -> None:
    found = set()
    for content, options in (
        (TWO, {}),
        (TWO + "more,1\n", {}),
        (TWO, {"threshold": 0.5}),
        (TWO, {"label_column": "label"}),
    ):
        path = tmp_path / "reviews.csv"
        path.write_text(content)
        found.add(TableReviews(path, **options).fingerprint())
        assert TableReviews(path.rename(tmp_path / "moved.csv"), **options).fingerprint() in found
    assert len(found) == 4


def test_checkpoint_is_scored_on_a_file_but_not_on_reviews_of_its_training(
    trained: Path, small_archive: Path, places: None, tmp_path: Path
) -> None:
    official = AclImdbReviews(small_archive, REVIEWS_PER_CLASS).read()
    rows = [(review.text, str(review.label)) for review in official if review.half == "test"]
    settings = {"source": "csv", "root": str(table(tmp_path, [("review", "label"), *rows]).root)}
    scored = evaluate(trained, split="all", data=settings)
    expected = json.loads((trained / "metrics.json").read_text())
    assert scored["all/accuracy"] == pytest.approx(expected["test/accuracy"])
    # with other white space, as another's export may have it
    reviews, parts = divide(AclImdbReviews(small_archive, REVIEWS_PER_CLASS), Encoding())
    rows += [(reviews[i].text.replace(" ", " <br />\n"), str(reviews[i].label)) for i in parts["train"][:3]]
    table(tmp_path, [("review", "label"), *rows])
    with pytest.raises(UserError, match=r"all reviews must be none that .* was trained on 3 of these 83: choose other"):
        evaluate(trained, split="all", data=settings)
    # earlier versions wrote no texts
    content = torch.load(trained / BEST, weights_only=True)
    del content["rnn_imdb"]["training_texts"]
    torch.save(content, tmp_path / "earlier.ckpt")
    assert len(open_checkpoint(tmp_path / "earlier.ckpt").training_texts) == 0
