"""Reviews encoded once into memory-mapped arrays, found again by a hash of where they came from and how."""

import hashlib
import json
import re
import shutil
import time
import uuid
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import platformdirs
from tqdm import tqdm

from rnn_imdb.common.console import waiting
from rnn_imdb.common.errors import UserError
from rnn_imdb.data.reviews import Review, Source
from rnn_imdb.data.splits import SPLITS, Split, review_ids, split_reviews, text_ids
from rnn_imdb.data.text import Vocabulary, fit_length, tokenize

# raise when the encoding or the layout of the cache changes
FORMAT = 4
# a folder that is being written; see _write
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}-[0-9a-f]{32}")
ABANDONED_SECONDS = 3600


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
class EncodedReviews:
    """All splits, and the vocabulary that encoded them."""

    splits: dict[str, Split]
    vocabulary: Vocabulary


def user_cache() -> Path:
    """The folder of the caches where none is named."""
    try:
        return platformdirs.user_cache_path("rnn_imdb")
    # a container that runs as a user without a name has no home
    except RuntimeError as error:
        raise UserError(f"the user's cache folder is not known ({error}): set data.cache_dir", exit_code=2) from error


def divide(source: Source, encoding: Encoding) -> tuple[list[Review], dict[str, np.ndarray]]:
    """All reviews of ``source``, and which of them each split has."""
    reviews, how = source.read(), {"by": encoding.split_by, "copies_together": source.copies_together}
    return reviews, split_reviews(reviews, encoding.split_seed, **how)


def encode(source: Source, encoding: Encoding, vocabulary: Vocabulary | None = None) -> EncodedReviews:
    """Read, split, tokenise and encode all reviews of ``source``."""
    reviews, parts = divide(source, encoding)
    # words are numbered as they come, so that 50,000 tokenised reviews take 60 MB instead of 1 GB
    numbers: dict[str, int] = {}
    tokenised = [
        np.array([numbers.setdefault(token, len(numbers)) for token in tokenize(review.text)], dtype=np.uint32)
        for review in tqdm(reviews, desc="encoding reviews", unit="review", leave=False, disable=None)
    ]
    words = list(numbers)
    if vocabulary is None:
        if not len(parts["train"]):
            raise UserError("a training must have reviews, but all are of other splits: correct data.split_column")
        counts = np.bincount(np.concatenate([tokenised[i] for i in parts["train"]]), minlength=len(words))
        counted = Counter({word: int(n) for word, n in zip(words, counts, strict=True) if n})
        vocabulary = Vocabulary.build(counted, encoding.vocabulary_size)
    index = np.array(vocabulary.encode(words), dtype=np.uint16)
    fit = partial(fit_length, length=encoding.sequence_length, padding=encoding.padding, truncation=encoding.truncation)
    labels = np.array([review.label for review in reviews], dtype=np.uint8)
    rows = np.stack([fit(index[words]) for words in tokenised])
    whole = (rows, labels, review_ids(reviews), text_ids(reviews))
    splits = {name: Split(*(values[members] for values in whole)) for name, members in parts.items()}
    return EncodedReviews(splits, vocabulary)


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
        if (own := _open(_folder(cache_dir, key), key)) and own.vocabulary.words == vocabulary.words:
            return own
        key["vocabulary"] = _words_digest(vocabulary.words)
    folder = _folder(cache_dir, key)
    if (found := _open(folder, key)) is None:
        encoded = encode(source, encoding, vocabulary)
        with waiting("writing the cache of encoded reviews"):
            _write(folder, encoded, key)
            found = _open(folder, key)
    if found is None:
        raise UserError(f"the cache {folder} is damaged and cannot be replaced: remove it, or set data.cache_dir")
    return found


def _folder(cache_dir: Path, key: dict[str, object]) -> Path:
    return cache_dir / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _words_digest(words: list[str]) -> str:
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


def _write(folder: Path, encoded: EncodedReviews, key: dict[str, object]) -> None:
    """Write all or nothing: the folder gets its name only when it is complete."""
    # not mkdtemp, whose folders are closed to others who share the caches
    temporary = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
    digests = {}
    try:
        temporary.mkdir(parents=True)
        _remove_abandoned(folder.parent)
        for split in SPLITS:
            for part, values in vars(encoded.splits[split]).items():
                path = temporary / f"{split}_{part}.npy"
                np.save(path, values)
                digests[path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()
        words = encoded.vocabulary.words
        meta = {"key": key, "sha256": digests, "vocabulary": words, "vocabulary_sha256": _words_digest(words)}
        (temporary / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        temporary.replace(folder)
    except OSError as error:
        # another process that encoded the same reviews may have been faster
        if not folder.is_dir():
            raise UserError(
                f"the cache cannot be written to {folder.parent} ({error}): make room there, or set data.cache_dir"
            ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_abandoned(cache_dir: Path) -> None:
    """Remove what killed writers left; writing takes seconds."""
    for folder in cache_dir.iterdir():
        # it may be another user's, or renamed just now
        with suppress(OSError):
            if _TEMPORARY.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def _open(folder: Path, key: dict[str, object]) -> EncodedReviews | None:
    """The cache of ``key`` in ``folder``; None where there is none, or where it was damaged and is now removed.

    Raises:
        UserError: it cannot be read; then it is not removed.
    """
    try:
        return _read(folder, key) if folder.is_dir() else None
    # damaged files make json and numpy raise anything
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise UserError(
                f"the cache {folder} cannot be read ({error}): mend that, or set data.cache_dir to another folder"
            ) from error
        print(f"the cache {folder} is damaged ({error}) and is built again")
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _read(folder: Path, key: dict[str, object]) -> EncodedReviews:
    """The cache of ``key`` in ``folder``; any exception but an OSError says that it is damaged."""
    meta = json.loads(_content(folder / "meta.json"))
    vocabulary = Vocabulary(meta["vocabulary"])
    if meta["key"] != key or _words_digest(vocabulary.words) != meta["vocabulary_sha256"]:
        raise ValueError("meta.json has changed")
    splits = {}
    for name in SPLITS:
        arrays = []
        for part in ("tokens", "labels", "ids", "texts"):
            path = folder / f"{name}_{part}.npy"
            if hashlib.sha256(_content(path)).hexdigest() != meta["sha256"][path.stem]:
                raise ValueError(f"{path.name} has changed")
            # memory-mapped, so that only used rows are read; a plain array, since np.memmap is slow to index
            arrays.append(np.asarray(np.lib.format.open_memmap(path, mode="r")))
        split = splits[name] = Split(*arrays)
        size = len(split.labels)
        kinds = ("uint8", "uint64", "uint64")
        expected = [((size, key["sequence_length"]), "uint16"), *(((size,), kind) for kind in kinds)]
        # the C kernel reads the embedding's row of every token
        if (
            [(array.shape, array.dtype.name) for array in arrays] != expected
            or split.tokens.max(initial=0) >= len(vocabulary)
            or split.labels.max(initial=0) > 1
        ):
            raise ValueError(f"the arrays of {name} hold what is no review")
    return EncodedReviews(splits, vocabulary)


def _content(path: Path) -> bytes:
    # opening a pipe would wait for ever
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no file")
    return path.read_bytes()
