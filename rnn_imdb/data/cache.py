"""Reviews encoded once into memory-mapped arrays, found again by a hash of where they came from and how."""

import errno
import hashlib
import json
import shutil
import uuid
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from rnn_imdb.common.errors import UserError
from rnn_imdb.data.sources import Review, Source
from rnn_imdb.data.text import Vocabulary, fit_length, tokenize

SPLITS = ("train", "validation", "test")
PARTS = ("tokens", "labels", "ids")
# raise when the encoding or the layout of the cache changes
FORMAT = 3


@dataclass(frozen=True)
class Encoding:
    """How reviews become rows of indices."""

    vocabulary_size: int = 10_000
    sequence_length: int = 500
    padding: str = "pre"
    truncation: str = "pre"
    split_seed: int = 0
    split_by: str = "review"


@dataclass(frozen=True)
class Split:
    """One encoded split: ``tokens`` (N, T) uint16, ``labels`` (N,) uint8, ``ids`` (N,) uint64 to tell reviews apart."""

    tokens: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class EncodedReviews:
    """All splits, and the vocabulary that encoded them."""

    splits: dict[str, Split]
    vocabulary: Vocabulary


def encoded_reviews(
    source: Source, encoding: Encoding, cache_dir: Path, vocabulary: Vocabulary | None = None
) -> EncodedReviews:
    """Reviews of ``source`` in arrays, from ``cache_dir`` where they were encoded before.

    Args:
        source: where the reviews come from.
        encoding: how to encode them.
        cache_dir: folder of the caches; made where it is missing.
        vocabulary: words to encode with; where None, the most frequent words of the training split.

    Raises:
        UserError: the reviews or their cache cannot be read, or the cache cannot be written.
    """
    key = {"format": FORMAT, "source": source.fingerprint(), **asdict(encoding)}
    if vocabulary is not None:
        # the vocabulary that this source would build itself is the common case, and shares its cache
        own = _open(cache_dir / _name(key), key)
        if own is not None and own.vocabulary.words == vocabulary.words:
            return own
        key["vocabulary"] = _words_digest(vocabulary.words)
    folder = cache_dir / _name(key)
    found = _open(folder, key)
    if found is None:
        _write(folder, encode(source, encoding, vocabulary), key)
        found = _open(folder, key)
    if found is None:
        raise UserError(f"the cache {folder} is damaged and cannot be replaced: remove it, or set data.cache_dir")
    return found


def _name(key: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def encode(source: Source, encoding: Encoding, vocabulary: Vocabulary | None = None) -> EncodedReviews:
    """Read, split, tokenise and encode all reviews of ``source``."""
    reviews = source.read()
    parts = split_reviews(reviews, source.fractions, encoding.split_seed, by=encoding.split_by)
    # words are numbered as they come, so that 50,000 tokenised reviews take 60 MB instead of 1 GB
    numbers: dict[str, int] = {}
    tokenised: list[np.ndarray] = []
    for review in tqdm(reviews, desc="encoding reviews", unit="review", leave=False, disable=None):
        row = [numbers.setdefault(token, len(numbers)) for token in tokenize(review.text)]
        tokenised.append(np.array(row, dtype=np.uint32))
    words = list(numbers)
    if vocabulary is None:
        in_training = np.concatenate([tokenised[i] for i in parts["train"]])
        counts = np.bincount(in_training, minlength=len(words))
        counted = Counter({word: int(n) for word, n in zip(words, counts, strict=True) if n})
        vocabulary = Vocabulary.build(counted, encoding.vocabulary_size)
    index = np.array(vocabulary.encode(words), dtype=np.uint16)
    ids = _review_ids(reviews)
    length = encoding.sequence_length
    splits = {}
    for name, members in parts.items():
        rows = [fit_length(index[tokenised[i]], length, encoding.padding, encoding.truncation) for i in members]
        tokens = np.stack(rows)
        labels = np.array([reviews[i].label for i in members], dtype=np.uint8)
        splits[name] = Split(tokens, labels, ids[members])
    return EncodedReviews(splits, vocabulary)


def split_reviews(
    reviews: list[Review], fractions: dict[str, dict[str, float]], seed: int, *, by: str = "review"
) -> dict[str, np.ndarray]:
    """Divide each official half into splits, in equal parts from both classes.

    The official halves share no film, and within a class the up to 30 reviews of a film stand side by side. Reviews
    that are drawn one by one therefore share their films, and with them names and plots, with the training split,
    and are easier to classify than those of the test. By ``neighbours`` a split takes one run of each class, from a
    place that is drawn; then they are harder, for a film's reviews of the other class may stay in training.

    Args:
        reviews: all reviews.
        fractions: for each half, the share of each split; a half's shares add up to 1.
        seed: another seed, another division.
        by: ``review`` or ``neighbours``.

    Returns:
        For each split, the positions of its reviews: ascending in the training split, whose batches are shuffled
        anyway; in the others mixed, so that those who stop early have seen both classes.
    """
    generator = np.random.default_rng(seed)
    members: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
    for half, shares in fractions.items():
        for label in (0, 1):
            positions = np.array([i for i, r in enumerate(reviews) if r.half == half and r.label == label], np.int64)
            if by == "neighbours":
                order = np.roll(positions, generator.integers(len(positions)))
            else:
                order = generator.permutation(positions)
            ends = np.round(np.cumsum(list(shares.values())) * len(order)).astype(int)
            for name, part in zip(shares, np.split(order, ends[:-1]), strict=True):
                members[name].append(part)
    return {
        name: np.sort(np.concatenate(parts)) if name == "train" else _mixed(parts, generator)
        for name, parts in members.items()
    }


def _mixed(parts: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """All members of ``parts`` in a drawn order, whose first n hold each part in its proportion, but for one member."""
    places = [(np.arange(len(part)) + generator.random(len(part))) / len(part) for part in parts]
    shuffled = [generator.permutation(part) for part in parts]
    return np.concatenate(shuffled)[np.argsort(np.concatenate(places))]


def _review_ids(reviews: list[Review]) -> np.ndarray:
    """One number a review: the same text, label and half give the same number in every source.

    The official reviews hold repeated texts, so the k-th copy of a text counts as a review of its own.
    """
    copies: Counter[Review] = Counter()
    ids = np.empty(len(reviews), dtype=np.uint64)
    for i, review in enumerate(reviews):
        text = "\0".join((review.half, str(review.label), str(copies[review]), review.text))
        ids[i] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        copies[review] += 1
    return ids


def _files(encoded: EncodedReviews) -> dict[str, np.ndarray]:
    return {f"{name}_{part}": values for name, split in encoded.splits.items() for part, values in vars(split).items()}


def _write(folder: Path, encoded: EncodedReviews, key: dict[str, object]) -> None:
    """Write all or nothing: the folder gets its name only when it is complete."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # mkdtemp's would be closed to all others, who may share the caches
        temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        temporary.mkdir()
        try:
            digests = {}
            for name, values in _files(encoded).items():
                np.save(temporary / f"{name}.npy", values)
                digests[name] = hashlib.sha256((temporary / f"{name}.npy").read_bytes()).hexdigest()
            words = encoded.vocabulary.words
            meta = {"key": key, "sha256": digests, "vocabulary": words, "vocabulary_sha256": _words_digest(words)}
            (temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
            _rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"the cache of encoded reviews cannot be written to {folder.parent} ({error}): make room there, or set "
            "data.cache_dir to a folder that can be written"
        ) from error


def _rename(temporary: Path, folder: Path) -> None:
    try:
        temporary.replace(folder)
    except OSError as error:
        # another process that encoded the same reviews was faster, and its folder serves
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _load(path: Path) -> np.ndarray:
    """The array in a file, of which only what is used is read; plain, since a memmap is slow to index.

    Raises:
        ValueError: the file holds none.
    """
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, MemoryError):
        raise
    # a header made to confuse ends numpy in whatever Python raises
    except Exception as error:
        raise ValueError(f"{path.name} holds no array: {error}") from error


def _words_digest(words: list[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _open(folder: Path, key: dict[str, object]) -> EncodedReviews | None:
    """The cache of ``key`` in ``folder``; None where there is none, or where it was damaged and is now removed.

    Raises:
        UserError: it cannot be read, which says nothing about what it holds.
    """
    try:
        if not folder.is_dir():
            return None
        return _read(folder, key)
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError) as error:
        print(f"the cache {folder} is damaged ({error}) and is built again")
        shutil.rmtree(folder, ignore_errors=True)
        return None
    except OSError as error:
        raise UserError(
            f"the cache {folder} cannot be read ({error}): mend that, or set data.cache_dir to another folder"
        ) from error


def _read(folder: Path, key: dict[str, object]) -> EncodedReviews:
    """The cache of ``key`` in ``folder``. Raises one of the errors that :func:`_open` lists where it is damaged."""
    meta = json.loads(_content(folder / "meta.json"))
    if meta["key"] != key:
        raise ValueError("it is of other reviews")
    vocabulary = Vocabulary(meta["vocabulary"])
    if _words_digest(vocabulary.words) != meta["vocabulary_sha256"]:
        raise ValueError("the vocabulary has changed")
    splits = {}
    for name in SPLITS:
        for part in PARTS:
            if hashlib.sha256(_content(folder / f"{name}_{part}.npy")).hexdigest() != meta["sha256"][f"{name}_{part}"]:
                raise ValueError(f"{name}_{part}.npy has changed")
        split = Split(*(_load(folder / f"{name}_{part}.npy") for part in PARTS))
        size = len(split.labels)
        expected = {"tokens": ((size, key["sequence_length"]), "uint16"), "labels": ((size,), "uint8")}
        expected["ids"] = ((size,), "uint64")
        if {part: (array.shape, array.dtype.name) for part, array in vars(split).items()} != expected:
            raise ValueError(f"the arrays of {name} do not fit each other")
        # C reads a row of the embedding for each
        if not size or split.tokens.max() >= len(vocabulary) or split.labels.max() > 1:
            raise ValueError(f"the arrays of {name} hold what is no review")
        splits[name] = split
    return EncodedReviews(splits, vocabulary)


def _content(path: Path) -> bytes:
    # opening a pipe would wait for ever
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no file")
    return path.read_bytes()
