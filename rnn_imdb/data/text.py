"""From text to tokens, and from tokens to indices. The only place that uses torchtext."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import count
from typing import cast

import numpy as np

PAD, UNKNOWN = "<pad>", "<unk>"
PAD_INDEX, UNKNOWN_INDEX = 0, 1


@cache
def _tokenizer() -> Callable[[str], list[str]]:
    # importing torchtext takes a second, and a start on a warm cache needs no tokenizer
    from torchtext.data.utils import get_tokenizer

    return cast(Callable[[str], list[str]], get_tokenizer("basic_english"))


def tokenize(text: str) -> list[str]:
    """Split ``text`` as torchtext's ``basic_english`` does: lower case, punctuation as tokens, no ``<br />``.

    >>> tokenize("It's GOOD.<br />Really!")
    ['it', "'", 's', 'good', '.', 'really', '!']
    """
    return _tokenizer()(text)


class Vocabulary:
    """Words and their indices: ``<pad>`` is 0, ``<unk>`` is 1, then words from frequent to rare.

    Args:
        words: all words in the order of their indices, the two special ones first.

    Raises:
        ValueError: the special words are not where they belong, or a word stands twice.

    >>> vocabulary = Vocabulary(["<pad>", "<unk>", "the", "film"])
    >>> vocabulary.encode(["the", "best", "film"]), vocabulary.decode([2, 3])
    ([2, 1, 3], ['the', 'film'])
    """

    def __init__(self, words: Sequence[str]) -> None:
        if list(words[:2]) != [PAD, UNKNOWN]:
            raise ValueError(f"a vocabulary starts with {PAD!r} and {UNKNOWN!r}, got {list(words[:2])!r}")
        self.words = list(words)
        # text that spells out "<pad>" is an unknown word, not padding
        self._index = {word: i for word, i in zip(words, count()) if i > UNKNOWN_INDEX}
        if len(self._index) != len(words) - 2:
            raise ValueError("a vocabulary holds each word once, got a repeated word")

    @classmethod
    def build(cls, counts: Counter[str], size: int) -> "Vocabulary":
        """The ``size`` most frequent words, special ones included; equally frequent words in alphabetical order."""
        from torchtext.vocab import Vocab

        return cls(Vocab(counts, max_size=size - 2, specials=[PAD, UNKNOWN]).itos)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Indices of ``tokens``; a word outside the vocabulary becomes 1."""
        return [self._index.get(token, UNKNOWN_INDEX) for token in tokens]

    def count_known(self, tokens: Iterable[str]) -> int:
        """How many of ``tokens`` are in the vocabulary."""
        return sum(token in self._index for token in tokens)

    def decode(self, indices: Iterable[int]) -> list[str]:
        """Words at ``indices``."""
        return [self.words[i] for i in indices]


def fit_length(indices: np.ndarray, length: int, padding: str, truncation: str) -> np.ndarray:
    """Cut or pad ``indices`` (N,) to (``length``,).

    ``truncation="pre"`` drops the beginning and keeps the last words, ``"post"`` the reverse, and ``"both"`` keeps
    words of which the first ``length`` // 4 begin the review and the others end it (Sun, Qiu, Xu and Huang, How to
    Fine-Tune BERT for Text Classification?, 2019). ``padding="pre"`` puts zeros in front, ``"post"`` behind. The
    lecture uses ``pre`` for both, as Keras's pad_sequences does.

    >>> fit_length(np.array([5, 6, 7]), 5, "pre", "pre"), fit_length(np.array([5, 6, 7]), 2, "pre", "pre")
    (array([0, 0, 5, 6, 7]), array([6, 7]))
    """
    dropped = len(indices) - length
    if dropped > 0:
        start = {"pre": 0, "post": length, "both": length // 4}[truncation]
        indices = np.delete(indices, slice(start, start + dropped))
    missing = length - len(indices)
    return np.pad(indices, (missing, 0) if padding == "pre" else (0, missing), constant_values=PAD_INDEX)


def words_at(
    count: int, length: int, padding: str, truncation: str, *, first: int | None = None, last: int | None = None
) -> np.ndarray:
    """Which of a review's ``count`` words is read at each step, (``length``,): 1 to ``count``, 0 for padding."""
    numbers = fit_length(np.arange(1, count + 1), length, padding, truncation)
    return keep_words(numbers[None], padding, first=first, last=last)[0]


def keep_words(rows: np.ndarray, padding: str, *, first: int | None = None, last: int | None = None) -> np.ndarray:
    """Padded ``rows`` (B, T) without all but their ``first`` or ``last`` words, padded on the same side.

    Raises:
        ValueError: both are given.
    """
    if first is not None and last is not None:
        raise ValueError(f"only one of first and last can be given, got {first} and {last}")
    if first is None and last is None:
        return rows
    real = rows != PAD_INDEX
    numbers = np.cumsum(real, axis=1)  # of each word in its review, from 1
    kept = real & (numbers <= first if last is None else numbers > numbers[:, -1:] - last)
    # a stable sort moves the padding to its side
    order = np.argsort(kept if padding == "pre" else ~kept, axis=1, kind="stable")
    return np.take_along_axis(np.where(kept, rows, PAD_INDEX), order, axis=1)
