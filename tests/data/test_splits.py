"""Which reviews a split takes, and how they are told apart."""

from collections import Counter

import numpy as np
import pytest

from rnn_imdb.data.reviews import Review
from rnn_imdb.data.splits import SPLITS, review_ids, split_reviews


@pytest.mark.parametrize("by", ["review", "neighbours"])
def test_splits_are_stratified_disjoint_and_complete(by: str) -> None:
    reviews = [
        Review("", label, half) for half in ("train", "test") for label, n in ((0, 50), (1, 150)) for _ in range(n)
    ]
    parts = split_reviews(reviews, 3, by=by)
    counts = {name: Counter((reviews[i].half, reviews[i].label) for i in part) for name, part in parts.items()}
    assert counts == {
        "train": {("train", 0): 40, ("train", 1): 120},
        "validation": {("train", 0): 10, ("train", 1): 30},
        "test": {("test", 0): 50, ("test", 1): 150},
    }
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(reviews)))


def test_a_split_by_neighbours_takes_one_run() -> None:
    reviews = [Review("", label, half) for half in ("train", "test") for label in (0, 1) for _ in range(100)]
    parts = split_reviews(reviews, 0, by="neighbours")
    for label in (0, 1):
        taken = np.isin(np.arange(100 * label, 100 * label + 100), parts["validation"])
        # one run of 20, which may go over the end
        assert taken.sum() == 20
        assert (taken != np.roll(taken, 1)).sum() == 2


@pytest.mark.parametrize("by", ["review", "neighbours"])
def test_splits_depend_on_the_split_seed_alone(by: str) -> None:
    reviews = [Review("", label, "train") for label in (0, 1) for _ in range(100)]
    np.random.seed(1)
    first = split_reviews(reviews, 0, by=by)
    np.random.seed(2)
    again = split_reviews(reviews, 0, by=by)
    other = split_reviews(reviews, 1, by=by)
    for name in SPLITS:
        np.testing.assert_array_equal(first[name], again[name])
        assert set(first[name]) != set(other[name])


@pytest.mark.parametrize("by", ["review", "neighbours"])
def test_a_split_holds_both_classes_however_few_are_taken(by: str) -> None:
    reviews = [
        Review("", label, half) for half in ("train", "test") for label, n in ((0, 100), (1, 300)) for _ in range(n)
    ]
    parts = split_reviews(reviews, 0, by=by)
    for name in ("validation", "test"):
        positive = np.array([reviews[i].label for i in parts[name]])
        taken = np.arange(1, len(positive) + 1)
        # a quarter is negative; each class may be one review ahead or behind
        assert (abs(np.cumsum(positive) - 0.75 * taken) <= 1).all()
        # no pattern that would give each of two processes a class of its own
        assert 0 < positive[::2].mean() < 1
        assert np.any(np.diff(parts[name][positive == 1]) < 0), "a class is in no order of its own"
    assert (np.diff(parts["train"]) > 0).all(), "the batches of a seed stay those of earlier versions"


def test_ids_tell_reviews_apart_and_equal_ones_in_any_order() -> None:
    reviews = [Review("film", 0, "train")] * 3 + [Review("film", 1, "train"), Review("film", 0, "test")]
    reviews += [Review("plot", 0, "train"), Review("", 0, "train"), Review("film\0", 0, "train")]
    ids = review_ids(reviews)
    assert len(set(ids)) == len(reviews)
    assert set(review_ids(reviews[::-1])) == set(ids)
    assert set(review_ids(reviews[1:])) < set(ids)
