"""Encoded once, found again, never half written."""

import errno
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REVIEWS_PER_CLASS, small_reviews, write_archive

from rnn_imdb.common.errors import UserError
from rnn_imdb.data import cache
from rnn_imdb.data.archive import AclImdbReviews
from rnn_imdb.data.cache import EncodedReviews, Encoding, encode, encoded_reviews
from rnn_imdb.data.reviews import Review, Source
from rnn_imdb.data.sources import EmbeddedReviews
from rnn_imdb.data.splits import SPLITS, split_reviews
from rnn_imdb.data.text import Vocabulary, tokenize

SMALL = Encoding(vocabulary_size=30, sequence_length=12)


class ListedReviews(Source):
    """A source of given reviews."""

    def __init__(self, reviews: list[Review]) -> None:
        self.reviews = reviews

    def read(self) -> list[Review]:
        return self.reviews


def listed(number: int = 20) -> ListedReviews:
    """Reviews of which each has a word of its own."""
    return ListedReviews(
        [Review(f"film w{i} w{i}", label, "train") for label in (0, 1) for i in range(label, number, 2)]
    )


@pytest.fixture
def source(small_archive: Path) -> AclImdbReviews:
    return AclImdbReviews(small_archive, REVIEWS_PER_CLASS)


def refuse_to_tokenize(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(text: str) -> list[str]:
        raise AssertionError(f"tokenised {text!r}")

    monkeypatch.setattr(cache, "tokenize", refuse)


def assert_equal(one: EncodedReviews, other: EncodedReviews) -> None:
    assert one.vocabulary.words == other.vocabulary.words
    for name in SPLITS:
        for part, values in vars(one.splits[name]).items():
            np.testing.assert_array_equal(values, getattr(other.splits[name], part))


def caches(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_warm_start_tokenises_nothing(
    source: AclImdbReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = encoded_reviews(source, SMALL, tmp_path)
    refuse_to_tokenize(monkeypatch)
    monkeypatch.setattr(AclImdbReviews, "read", None)
    assert_equal(cold, encoded_reviews(source, SMALL, tmp_path))


def test_rows_are_the_encoded_reviews(source: AclImdbReviews, tmp_path: Path) -> None:
    encoded = encoded_reviews(source, SMALL, tmp_path)
    reviews = source.read()
    parts = split_reviews(reviews, 0)
    for name in SPLITS:
        for row, label, position in zip(
            encoded.splits[name].tokens, encoded.splits[name].labels, parts[name], strict=True
        ):
            indices = encoded.vocabulary.encode(tokenize(reviews[position].text))[-12:]
            assert row.tolist() == [0] * (12 - len(indices)) + indices
            assert label == reviews[position].label


def test_arrays_are_memory_mapped_and_small(source: AclImdbReviews, tmp_path: Path) -> None:
    encoded = encoded_reviews(source, SMALL, tmp_path)
    for name, size in (("train", 64), ("validation", 16), ("test", 80)):
        split = encoded.splits[name]
        assert all(isinstance(values.base, np.memmap) for values in vars(split).values())
        assert not split.tokens.flags.writeable
        assert (split.tokens.shape, split.tokens.dtype) == ((size, 12), np.uint16)
        assert (split.labels.shape, split.labels.dtype) == ((size,), np.uint8)
        assert (split.ids.shape, split.ids.dtype) == ((size,), np.uint64)


def test_the_largest_vocabulary_fits_16_bits() -> None:
    source = listed()
    words = ["<pad>", "<unk>", *(f"x{i}" for i in range(65_533)), "w0"]
    encoded = encode(source, replace(SMALL, vocabulary_size=65_536), Vocabulary(words))
    assert max(split.tokens.max() for split in encoded.splits.values()) == 65_535


@pytest.mark.parametrize(
    "changed",
    [
        {"vocabulary_size": 31},
        {"sequence_length": 13},
        {"padding": "post"},
        {"truncation": "post"},
        {"split_seed": 1},
        {"split_by": "neighbours"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_a_cache_of_its_own(source: AclImdbReviews, tmp_path: Path, changed: dict[str, Any]) -> None:
    encoded_reviews(source, SMALL, tmp_path)
    other = encoded_reviews(source, replace(SMALL, **changed), tmp_path)
    assert len(caches(tmp_path)) == 2
    assert_equal(other, encode(source, replace(SMALL, **changed)))
    encoded_reviews(source, replace(SMALL), tmp_path)
    assert len(caches(tmp_path)) == 2


def test_every_source_has_a_cache_of_its_own(source: AclImdbReviews, small_archive: Path, tmp_path: Path) -> None:
    members = small_reviews() | {"aclImdb/train/pos/3_9.txt": b"other words"}
    other = AclImdbReviews(write_archive(tmp_path / "a.tar.gz", members), REVIEWS_PER_CLASS)
    folder = tmp_path / "cache"
    first, second = (encoded_reviews(each, SMALL, folder) for each in (source, other))
    assert len(caches(folder)) == 2
    assert {*first.splits["train"].ids, *first.splits["validation"].ids} != {
        *second.splits["train"].ids,
        *second.splits["validation"].ids,
    }
    copy = tmp_path / "copy.tar.gz"
    copy.write_bytes(small_archive.read_bytes())
    encoded_reviews(AclImdbReviews(copy, REVIEWS_PER_CLASS), SMALL, folder)
    assert len(caches(folder)) == 2, "where an archive lies says nothing about its reviews"


def test_words_outside_the_training_split_are_unknown() -> None:
    source = listed()
    encoded = encode(source, replace(SMALL, vocabulary_size=1000))
    parts = split_reviews(source.reviews, 0)
    assert set(encoded.vocabulary.words[3:]) == {source.reviews[i].text.split()[1] for i in parts["train"]}
    film = encoded.vocabulary.encode(["film"])[0]
    for name in ("validation", "test"):
        assert (encoded.splits[name].tokens[:, -3:] == [film, 1, 1]).all()
    assert (encoded.splits["train"].tokens[:, -2:] > 2).all()


def test_an_empty_review_is_all_padding() -> None:
    source = listed()
    source.reviews = [*source.reviews, *(Review(" " * n, label) for label in (0, 1) for n in range(20))]
    assert sum((split.tokens == 0).all(axis=1).sum() for split in encode(source, SMALL).splits.values()) == 40


def test_a_full_disk_is_reported_and_leaves_nothing(
    source: AclImdbReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = np.save, []

    def fill_up(path: Path, values: np.ndarray) -> None:
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, values)
        saved.append(path)

    monkeypatch.setattr(np, "save", fill_up)
    message = r"cannot be written to .*No space left on device.*make room there, or set data\.cache_dir"
    with pytest.raises(UserError, match=message):
        encoded_reviews(source, SMALL, tmp_path)
    assert caches(tmp_path) == []
    monkeypatch.undo()
    assert len(encoded_reviews(source, SMALL, tmp_path).splits["train"].labels) == 64


def test_an_interrupted_encoding_leaves_nothing(
    source: AclImdbReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        encoded_reviews(source, SMALL, tmp_path)
    assert caches(tmp_path) == []


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_file_in_place_of_the_folder_is_reported(source: AclImdbReviews, tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(UserError, match=r"cannot be written to .*file.*set data\.cache_dir"):
        encoded_reviews(source, SMALL, file / below)
    assert file.read_text() == "in the way"


def test_a_folder_that_cannot_be_written_is_reported(
    source: AclImdbReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # chmod does not bind root
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=r"cannot be written to .*Permission denied.*set data\.cache_dir"):
        encoded_reviews(source, SMALL, tmp_path)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path, **values: Any) -> None:
    meta = json.loads(path.read_text())
    path.write_text(json.dumps(meta | values))


def change_a_word(path: Path) -> None:
    words = json.loads(path.read_text())["vocabulary"]
    words[5] = "changed"
    change(path, vocabulary=words)


def put(path: Path, content: bytes) -> None:
    """Write ``content``, with the digest that belongs to it."""
    path.write_bytes(content)
    meta = path.with_name("meta.json")
    digests = json.loads(meta.read_text())["sha256"]
    change(meta, sha256=digests | {path.stem: hashlib.sha256(content).hexdigest()})


def save(path: Path, edit: Callable[[np.ndarray], np.ndarray]) -> None:
    """Write another array."""
    np.save(path, edit(np.load(path)))
    put(path, path.read_bytes())


def array_with(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("train_tokens.npy", lambda path: flip(path, -1)),
        ("test_labels.npy", lambda path: flip(path, 130)),
        ("validation_ids.npy", lambda path: flip(path, 0)),
        ("validation_tokens.npy", truncate),
        ("train_ids.npy", Path.unlink),
        ("meta.json", truncate),
        ("meta.json", Path.unlink),
        ("meta.json", lambda path: path.write_bytes(b"")),
        ("meta.json", lambda path: path.write_bytes(b"\xff\xfe")),
        ("meta.json", lambda path: path.write_text("[]")),
        ("meta.json", lambda path: path.write_text('{"sha256": [], "vocabulary": []}')),
        ("meta.json", change_a_word),
        ("meta.json", lambda path: path.write_text("[" * 10_000)),
        ("meta.json", lambda path: path.write_text("1" * 10_000)),
        ("meta.json", lambda path: change(path, key="other")),
        ("meta.json", lambda path: change(path, sha256=3)),
        ("meta.json", lambda path: change(path, vocabulary=list(range(30)))),
        ("meta.json", lambda path: change(path, vocabulary=[["<pad>"], {}])),
        ("meta.json", become_a_pipe),
        ("test_ids.npy", become_a_pipe),
        ("train_tokens.npy", lambda path: save(path, lambda tokens: tokens + np.uint16(30))),
        ("train_tokens.npy", lambda path: save(path, lambda tokens: tokens[:, :-1])),
        ("train_tokens.npy", lambda path: save(path, lambda tokens: tokens.astype(np.int64))),
        ("test_tokens.npy", lambda path: save(path, lambda tokens: tokens[:-1])),
        ("test_labels.npy", lambda path: save(path, lambda labels: labels + np.uint8(1))),
        ("test_labels.npy", lambda path: save(path, lambda labels: labels.astype(object))),
        ("test_labels.npy", lambda path: put(path, b"PK\x03\x04")),
        ("train_tokens.npy", lambda path: put(path, array_with("((("))),
        (
            "train_ids.npy",
            lambda path: put(path, array_with(f"{{'descr': '<u8', 'fortran_order': False, 'shape': ({2**70},)}}")),
        ),
    ],
)
def test_a_damaged_cache_is_announced_and_built_again(
    source: AclImdbReviews, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, damage: Any
) -> None:
    encoded_reviews(source, SMALL, tmp_path)
    (folder,) = tmp_path.iterdir()
    capsys.readouterr()
    damage(folder / file)
    assert_equal(encoded_reviews(source, SMALL, tmp_path), encode(source, SMALL))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"the cache {folder} is damaged (")
    assert line.endswith(") and is built again")
    assert_equal(encoded_reviews(source, SMALL, tmp_path), encode(source, SMALL))
    assert capsys.readouterr().out == "", "once is enough"
    assert caches(tmp_path) == [folder.name]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("function", ["read_bytes", "is_dir"])
def test_a_cache_that_cannot_be_read_is_not_called_damaged(
    source: AclImdbReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, function: str
) -> None:
    encoded_reviews(source, SMALL, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}

    def refuse(path: Path) -> bytes:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, function, refuse)
    source.fingerprint()
    with pytest.raises(UserError, match=rf"cache .* cannot be read \(.*{os.strerror(code)}.*set data\.cache_dir"):
        encoded_reviews(source, SMALL, tmp_path)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.glob("*/*")} == before


def test_a_cache_is_open_to_those_whom_the_umask_lets_in(source: AclImdbReviews, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        encoded_reviews(source, SMALL, tmp_path / "cache")
    finally:
        os.umask(before)
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


def test_a_link_in_place_of_a_cache_is_left_alone(source: AclImdbReviews, tmp_path: Path) -> None:
    encoded_reviews(source, SMALL, tmp_path / "cache")
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "meta.json").write_text("{}")
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    before = caches(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"cannot be (replaced|written)"):
        encoded_reviews(source, SMALL, tmp_path / "cache")
    assert caches(tmp_path / "elsewhere") == before


def test_a_damaged_cache_that_cannot_be_removed_is_reported(
    source: AclImdbReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded_reviews(source, SMALL, tmp_path)
    (folder,) = tmp_path.iterdir()
    truncate(folder / "meta.json")
    monkeypatch.setattr(cache.shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(
        UserError, match=rf"{folder} is damaged and cannot be replaced: remove it, or set data\.cache_dir"
    ):
        encoded_reviews(source, SMALL, tmp_path)


def build_together(archive: Path, folder: Path, barrier: Any) -> None:
    """One of two processes, which write at the same moment."""
    save = np.save

    def wait(path: Path, values: np.ndarray) -> None:
        if path.name == "train_tokens.npy":
            barrier.wait(30)
        save(path, values)

    np.save = wait
    # the real tokenizer would have to import torch first
    cache.tokenize = str.split
    encoded = encoded_reviews(AclImdbReviews(archive, REVIEWS_PER_CLASS), SMALL, folder)
    assert len(encoded.splits["train"].labels) == 64


def test_two_processes_may_build_one_cache(
    source: AclImdbReviews, small_archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=build_together, args=(small_archive, tmp_path, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert len(caches(tmp_path)) == 1
    monkeypatch.setattr(cache, "tokenize", str.split)
    assert_equal(encoded_reviews(source, SMALL, tmp_path), encode(source, SMALL))


def test_a_given_vocabulary_encodes(source: AclImdbReviews, tmp_path: Path) -> None:
    vocabulary = Vocabulary(["<pad>", "<unk>", "wonderful", "awful"])
    encoded = encoded_reviews(source, replace(SMALL, sequence_length=30), tmp_path, vocabulary)
    assert encoded.vocabulary.words == vocabulary.words
    assert set(np.unique(encoded.splits["train"].tokens)) == {0, 1, 2, 3}
    swapped = Vocabulary(["<pad>", "<unk>", "awful", "wonderful"])
    other = encoded_reviews(source, replace(SMALL, sequence_length=30), tmp_path, swapped)
    assert other.vocabulary.words == swapped.words
    assert len(caches(tmp_path)) == 2


def test_an_equal_vocabulary_shares_the_cache(
    source: AclImdbReviews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = encoded_reviews(source, SMALL, tmp_path)
    refuse_to_tokenize(monkeypatch)
    assert_equal(encoded_reviews(source, SMALL, tmp_path, Vocabulary(own.vocabulary.words)), own)
    assert len(caches(tmp_path)) == 1


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(
    source: AclImdbReviews, tmp_path: Path
) -> None:
    living, dead, other = (tmp_path / name for name in (f".{16 * 'a'}-{32 * 'a'}", f".{16 * 'b'}-{32 * 'b'}", ".other"))
    long_ago = time.time() - cache.ABANDONED_SECONDS - 1
    for folder in (living, dead, other):
        folder.mkdir()
        (folder / "train_tokens.npy").write_bytes(b"half")
        if folder != living:
            os.utime(folder, (long_ago, long_ago))
    encoded_reviews(source, SMALL, tmp_path)
    assert (living / "train_tokens.npy").read_bytes() == b"half"
    assert not dead.exists()
    assert len(caches(tmp_path)) == 3


@pytest.fixture(scope="session")
def official(official_root: str, cache_dir: Path) -> EncodedReviews:
    return encoded_reviews(AclImdbReviews(official_root), Encoding(), cache_dir)


@pytest.fixture(scope="session")
def embedded(cache_dir: Path) -> EncodedReviews:
    return encoded_reviews(EmbeddedReviews(), Encoding(), cache_dir)


def test_official_splits_have_the_protocol_s_sizes(official: EncodedReviews) -> None:
    sizes = {name: (split.tokens.shape, int(split.labels.sum())) for name, split in official.splits.items()}
    assert sizes == {
        "train": ((20_000, 500), 10_000),
        "validation": ((5_000, 500), 2_500),
        "test": ((25_000, 500), 12_500),
    }
    assert len(official.vocabulary) == 10_000
    assert official.splits["train"].tokens.max() == 9_999


def test_embedded_splits_have_the_documented_sizes(embedded: EncodedReviews) -> None:
    sizes = {name: (split.tokens.shape, int(split.labels.sum())) for name, split in embedded.splits.items()}
    assert sizes == {
        "train": ((20_000, 500), 10_000),
        "validation": ((2_500, 500), 1_250),
        "test": ((2_500, 500), 1_250),
    }
    assert len(embedded.vocabulary) == 10_000
    ids = np.concatenate([split.ids for split in embedded.splits.values()])
    assert len(np.unique(ids)) == 25_000


def test_embedded_reviews_are_the_official_training_half(official: EncodedReviews, embedded: EncodedReviews) -> None:
    training = np.concatenate([official.splits[name].ids for name in ("train", "validation")])
    assert set(training) == set(np.concatenate([embedded.splits[name].ids for name in SPLITS]))
    assert not set(training) & set(official.splits["test"].ids)
