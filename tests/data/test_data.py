"""Batches, their order, and how Lightning asks for them."""

import pwd
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as L
import numpy as np
import platformdirs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rnn_imdb.common.errors import UserError
from rnn_imdb.data.module import BatchSampler, IMDBDataModule, ReviewDataset
from rnn_imdb.data.splits import Split
from rnn_imdb.data.text import Vocabulary, fit_length, keep_words
from rnn_imdb.training import environment

SIZES = {"size": st.integers(1, 100), "batch_size": st.integers(1, 120)}
SEEDS = st.integers(0, 2**32 - 1)


def order(size: int, batch_size: int, seed: int | None, epoch: int = 0) -> list[int]:
    sampler = BatchSampler(size, batch_size, seed)
    sampler.set_epoch(epoch)
    return np.concatenate(list(sampler)).tolist()


@given(**SIZES, seed=st.none() | SEEDS, epoch=st.integers(0, 99))
def test_every_review_comes_once_an_epoch(size: int, batch_size: int, seed: int | None, epoch: int) -> None:
    assert sorted(order(size, batch_size, seed, epoch)) == list(range(size))


@given(**SIZES, seed=st.none() | SEEDS)
def test_only_the_last_batch_may_be_smaller(size: int, batch_size: int, seed: int | None) -> None:
    sampler = BatchSampler(size, batch_size, seed)
    sizes = [len(batch) for batch in sampler]
    assert len(sizes) == len(sampler)
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert 1 <= sizes[-1] <= batch_size


@pytest.mark.parametrize("size", [1, 7, 64, 65, 66])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_processes_together_see_each_review_once(size: int, replicas: int) -> None:
    if size < replicas:
        pytest.skip("fewer reviews than processes")
    samplers = [BatchSampler(size, 8, 0, replicas=replicas, rank=rank) for rank in range(replicas)]
    batches = list(zip(*samplers, strict=True))
    assert sorted(np.concatenate([part for batch in batches for part in batch])) == list(range(size))
    assert all(len(part) > 0 for batch in batches for part in batch)
    if size % 8 >= replicas or size % 8 == 0:
        alone = [set(batch) for batch in BatchSampler(size, 8, 0)]
        assert [{i for part in batch for i in part} for batch in batches] == alone


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        np.random.seed(epoch)
        torch.manual_seed(epoch)
        orders[seed, epoch] = order(50, 8, seed, epoch)
        assert order(50, 7, seed, epoch) == orders[seed, epoch]
    assert len({tuple(each) for each in orders.values()}) == 4


def test_without_a_seed_reviews_come_in_order() -> None:
    for epoch in (0, 1):
        assert order(50, 8, None, epoch) == list(range(50))


def test_positions_give_a_whole_batch() -> None:
    tokens = np.arange(20, dtype=np.uint16).reshape(5, 4) + 65_000
    split = Split(tokens, np.array([0, 1, 1, 0, 1], dtype=np.uint8), *[np.arange(5, dtype=np.uint64)] * 2)
    dataset = ReviewDataset(split)
    assert len(dataset) == 5
    batch, labels = dataset[np.array([4, 0, 1])]
    assert (batch.dtype, labels.dtype) == (torch.int64, torch.float32)
    assert batch.tolist() == tokens[[4, 0, 1]].tolist()
    assert labels.tolist() == [1.0, 0.0, 1.0]


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    kept=st.integers(1, 12),
    padding=st.sampled_from(["pre", "post"]),
    side=st.sampled_from(["first", "last"]),
)
def test_kept_words_are_those_of_a_review_that_had_no_others(
    lengths: list[int], kept: int, padding: str, side: str
) -> None:
    reviews = [np.arange(1, length + 1, dtype=np.uint16) for length in lengths]
    rows = np.stack([fit_length(review, 9, padding, "pre") for review in reviews])
    before = rows.copy()
    expected = [review[:kept] if side == "first" else review[-kept:] for review in reviews]
    actual = keep_words(rows, padding, **{side: kept})
    assert actual.tolist() == [fit_length(review, 9, padding, "pre").tolist() for review in expected]
    assert actual.dtype == rows.dtype
    np.testing.assert_array_equal(rows, before)


def test_all_words_are_kept_without_a_copy_unless_told_which() -> None:
    rows = np.array([[0, 3, 4]], dtype=np.uint16)
    assert keep_words(rows, "pre") is rows
    with pytest.raises(ValueError, match="only one of first and last can be given, got 1 and 2"):
        keep_words(rows, "pre", first=1, last=2)


@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("side", ["first_words", "last_words"])
def test_batches_hold_only_the_words_asked_for(small_data: dict[str, Any], padding: str, side: str) -> None:
    whole, part = (
        IMDBDataModule(**{**small_data, "padding": padding, **limit}, evaluation_batch_size=80)
        for limit in ({}, {side: 7})
    )
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        tokens, read = (next(iter(getattr(data, loader)()))[0] for data in (whole, part))
        # also what looks at the reviews sees no others
        if loader != "train_dataloader":
            name = "test" if loader == "test_dataloader" else "validation"
            assert torch.equal(torch.from_numpy(part.split(name).tokens.astype(np.int64)), read)
        assert (tokens > 0).sum(dim=1).min() > 7
        assert (read > 0).sum(dim=1).tolist() == [7] * len(read)
        for row, words in zip(tokens, read, strict=True):
            review = row[row > 0][:7] if side == "first_words" else row[row > 0][-7:]
            assert torch.equal(words[-7:] if padding == "pre" else words[:7], review)


@pytest.fixture
def data(small_data: dict[str, Any]) -> IMDBDataModule:
    return IMDBDataModule(**small_data, evaluation_batch_size=50)


def test_loaders_give_batches_of_the_splits(data: IMDBDataModule) -> None:
    loaders = {"train": data.train_dataloader(), "validation": data.val_dataloader(), "test": data.test_dataloader()}
    sizes = {}
    for name, loader in loaders.items():
        batches = list(loader)
        sizes[name] = [len(labels) for _, labels in batches]
        assert all(tokens.shape == (len(labels), 30) for tokens, labels in batches)
        labels = torch.cat([labels for _, labels in batches]).numpy()
        assert labels.mean() == 0.5
        # evaluation takes the reviews in order, training does not
        assert (labels == data.split(name).labels).all() == (name != "train")
    assert sizes == {"train": [16] * 4, "validation": [16], "test": [50, 30]}


def test_the_seed_orders_training_and_splits_nothing(small_data: dict[str, Any]) -> None:
    one, other, same = (IMDBDataModule(**small_data, seed=seed) for seed in (0, 1, 0))
    np.testing.assert_array_equal(one.split("train").ids, other.split("train").ids)
    first = [next(iter(data.train_dataloader()))[0] for data in (one, other, same)]
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])


def test_a_given_vocabulary_is_used(small_data: dict[str, Any]) -> None:
    data = IMDBDataModule(**small_data, vocabulary=Vocabulary(["<pad>", "<unk>", "awful"]))
    assert data.vocabulary.words == ["<pad>", "<unk>", "awful"]
    assert data.split("test").tokens.max() == 2


def test_a_cache_without_a_home_is_asked_for(small_data: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found: 1234")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(UserError, match=r"the user's cache folder is not known \(.*\): set data\.cache_dir"):
        IMDBDataModule()
    assert IMDBDataModule(**small_data).split("train")
    with pytest.raises(UserError, match=r"home of a known user, got ~/cache"):
        IMDBDataModule(cache_dir="~/cache")


@pytest.mark.parametrize(
    ("few", "replicas", "name"),
    [
        ({"batch_size": 1}, 2, r"data\.batch_size .* 2 processes, got 1"),
        ({"evaluation_batch_size": 3}, 4, r"data\.evaluation_batch_size .* 4 processes, got 3"),
        ({"batch_size": 50, "evaluation_batch_size": 50}, 17, "the validation split .* 17 processes, got 16"),
    ],
)
def test_no_process_is_left_without_a_review(
    small_data: dict[str, Any], few: dict[str, int], replicas: int, name: str
) -> None:
    for rank in range(2):
        data = IMDBDataModule(**{**small_data, **few})
        data.trainer = SimpleNamespace(world_size=replicas, global_rank=rank)  # pyright: ignore[reportAttributeAccessIssue] all that is asked
        # at the start, and in all processes
        with pytest.raises(UserError, match=name):
            data.train_dataloader()


def test_the_cache_is_the_user_s_unless_told(small_data: dict[str, Any]) -> None:
    assert IMDBDataModule().cache_dir == platformdirs.user_cache_path("rnn_imdb")
    assert IMDBDataModule(**{**small_data, "cache_dir": "~/elsewhere"}).cache_dir == Path.home() / "elsewhere"


class Watching(L.LightningModule):
    """Keeps the tokens of every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[Tensor]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).append(batch[0])
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_gives_every_epoch_its_order(data: IMDBDataModule, tmp_path: Path) -> None:
    environment.start(0)
    module = Watching()
    trainer = L.Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data.loader("train", shuffled=True))
    for epoch in range(3):
        rows = data.split("train").tokens[order(64, 16, 0, epoch)]
        assert torch.cat(module.seen[epoch]).tolist() == rows.tolist()


def test_a_loader_starts_again_from_the_epoch_it_was_given(data: IMDBDataModule) -> None:
    loader = data.train_dataloader()
    sampler = loader.sampler
    assert isinstance(sampler, BatchSampler)
    sampler.set_epoch(2)
    first, second = (next(islice(loader, 1, None))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert first.tolist() == data.split("train").tokens[order(64, 16, 0, 2)[16:32]].tolist()
