"""What a split is: which reviews it takes, and what it holds of them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rnn_imdb.data.reviews import Review, fold

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One encoded split: ``tokens`` (N, T) uint16, ``labels`` (N,) uint8; (N,) uint64 to tell reviews apart.

    ``ids`` tell apart the reviews of a corpus, which may repeat a text, and ``texts`` those of any two corpora.
    """

    tokens: np.ndarray
    labels: np.ndarray
    ids: np.ndarray
    texts: np.ndarray


def split_reviews(
    reviews: Sequence[Review], seed: int, *, by: str = "review", copies_together: bool = False
) -> dict[str, np.ndarray]:
    """Divide each half of ``reviews`` into splits, in equal parts from both classes.

    A training half alone gives 80 % / 10 % / 10 %, beside a test half 80 % / 20 % of itself; where there is a
    validation half too, each is its split.

    The official halves share no film, and within a class the up to 30 reviews of a film stand side by side. Reviews
    that are drawn one by one share their films, and with them names and plots, with the training split: they are
    easier to classify than the test. ``neighbours`` takes one run of each class, from a random place. These reviews
    are harder, for a film's reviews of the other class may stay in training.

    Args:
        reviews: all reviews.
        seed: another seed, another division.
        by: ``review`` or ``neighbours``.
        copies_together: reviews of a half with one text go to one split, as one review.

    Returns:
        For each split, the positions of its reviews: ascending in the training split, whose batches are shuffled
        anyway; in the others mixed, so that those who stop early have seen both classes.
    """
    copies: dict[object, list[int]] = {}
    for i, review in enumerate(reviews):
        copies.setdefault((review.half, fold(review.text)) if copies_together else i, []).append(i)
    groups = list(copies.values())
    firsts = [reviews[group[0]] for group in groups]
    generator = np.random.default_rng(seed)
    members = {name: [np.array([], np.int64)] for name in SPLITS}
    for half, shares in _shares({review.half for review in reviews}).items():
        for label in (0, 1):
            order = np.array([i for i, r in enumerate(firsts) if r.half == half and r.label == label], np.int64)
            if by == "neighbours":
                order = np.roll(order, generator.integers(max(len(order), 1)))
            else:
                order = generator.permutation(order)
            ends = np.round(np.cumsum(list(shares.values())) * len(order)).astype(int)
            for name, part in zip(shares, np.split(order, ends[:-1]), strict=True):
                members[name].append(np.array([i for group in part for i in groups[group]], np.int64))
    return {
        name: np.sort(np.concatenate(parts)) if name == "train" else _mixed(parts, generator)
        for name, parts in members.items()
    }


def _shares(halves: set[str]) -> dict[str, dict[str, float]]:
    """For each half of a corpus, how it is divided into splits."""
    if halves == {"train"}:
        return {"train": {"train": 0.8, "validation": 0.1, "test": 0.1}}
    if halves == {"train", "test"}:
        return {"train": {"train": 0.8, "validation": 0.2}, "test": {"test": 1.0}}
    return {half: {half: 1.0} for half in SPLITS if half in halves}


def _mixed(parts: list[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """All members of ``parts`` in a drawn order, whose first n hold each part in its proportion, but for one member."""
    places = [(np.arange(len(part)) + generator.random(len(part))) / len(part) for part in parts]
    shuffled = [generator.permutation(part) for part in parts]
    return np.concatenate(shuffled)[np.argsort(np.concatenate(places))]


def review_ids(reviews: Sequence[Review]) -> np.ndarray:
    """One number a review: the same text, label and half give the same number in every source.

    The official reviews hold repeated texts, so the k-th copy of a text counts as a review of its own.
    """
    copies: Counter[Review] = Counter()
    ids = []
    for review in reviews:
        ids.append(_number("\0".join((review.half, str(review.label), str(copies[review]), review.text))))
        copies[review] += 1
    return np.array(ids, np.uint64)


def text_ids(reviews: Sequence[Review]) -> np.ndarray:
    """One number a text, whatever its label, its half, and its white space and line breaks."""
    return np.array([_number(fold(review.text)) for review in reviews], np.uint64)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
