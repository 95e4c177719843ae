"""What a split is: which reviews it takes, and what it holds of them."""

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np

from rnn_imdb.data.sources import Review

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """One encoded split: ``tokens`` (N, T) uint16, ``labels`` (N,) uint8, ``ids`` (N,) uint64 to tell reviews apart."""

    tokens: np.ndarray
    labels: np.ndarray
    ids: np.ndarray


def split_reviews(
    reviews: list[Review], fractions: dict[str, dict[str, float]], seed: int, *, by: str = "review"
) -> dict[str, np.ndarray]:
    """Divide each official half into splits, in equal parts from both classes.

    The official halves share no film, and within a class the up to 30 reviews of a film stand side by side. Reviews
    that are drawn one by one share their films, and with them names and plots, with the training split: they are
    easier to classify than the test. ``neighbours`` takes one run of each class, from a random place. These reviews
    are harder, for a film's reviews of the other class may stay in training.

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


def review_ids(reviews: list[Review]) -> np.ndarray:
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
