"""Batches of encoded reviews for Lightning."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from rnn_imdb.common.errors import UserError
from rnn_imdb.common.files import expand
from rnn_imdb.data.cache import EncodedReviews, Encoding, encoded_reviews, user_cache
from rnn_imdb.data.sources import OPTIONS, make_source
from rnn_imdb.data.splits import SPLITS, Split
from rnn_imdb.data.text import Vocabulary, keep_words


class ReviewDataset(Dataset[tuple[Tensor, Tensor]]):
    """A split, indexed by whole batches: positions (B,) give tokens (B, T) int64 and labels (B,) float32."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        tokens = torch.from_numpy(self.split.tokens[positions].astype(np.int64))
        labels = torch.from_numpy(self.split.labels[positions].astype(np.float32))
        return tokens, labels


class BatchSampler(Sampler[np.ndarray]):
    """Positions of one batch after the other; the last batch may be smaller.

    With a seed, each epoch visits all positions in an order that depends on (seed, epoch) alone, so that a run
    resumed at an epoch boundary sees the same batches as one never interrupted. Without a seed, in order.

    Several processes share each batch: together they see the batches that one process would see. A last batch with
    fewer reviews than processes joins the one before it.

    Args:
        size, batch_size: number of reviews, and of those in a batch of all processes together.
        seed: of the orders, or None.
        replicas, rank: number of processes, and of this one.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int | None = None, *, replicas: int = 1, rank: int = 0
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.replicas = replicas
        self.rank = rank
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts())

    def _starts(self) -> list[int]:
        starts = list(range(0, self.size, self.batch_size))
        if len(starts) > 1 and self.size - starts[-1] < self.replicas:
            starts.pop()
        return starts

    def __iter__(self) -> Iterator[np.ndarray]:
        order = np.arange(self.size)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(order)
        for batch in np.split(order, self._starts()[1:]):
            yield batch[self.rank :: self.replicas]


class IMDBDataModule(L.LightningDataModule):
    """Train, validation and test reviews as padded rows of word indices.

    Args:
        seed: of the order of the training batches.
        vocabulary: words to encode with instead of the training split's own.
        options: of the source, see ``sources.OPTIONS``, and arguments of ``cache.Encoding``.
        others: the options in ``conf/data/``, where their meaning stands.

    Raises:
        UserError: the reviews cannot be read, or the cache cannot be written.
    """

    def __init__(
        self,
        source: str = "embedded",
        *,
        cache_dir: str | None = None,
        first_words: int | None = None,
        last_words: int | None = None,
        batch_size: int = 32,
        evaluation_batch_size: int = 250,
        seed: int = 0,
        vocabulary: Vocabulary | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        # a checkpoint of one's own Trainer names them
        self.save_hyperparameters(ignore=["vocabulary"], logger=False)
        self.source = make_source({"source": source, **options})
        self.encoding = Encoding(**{name: value for name, value in options.items() if name not in OPTIONS})
        self.cache_dir = expand(cache_dir) if cache_dir else user_cache()
        self.first_words = first_words
        self.last_words = last_words
        self.batch_size = batch_size
        self.evaluation_batch_size = evaluation_batch_size
        self.seed = seed
        self._given_vocabulary = vocabulary

    @cached_property
    def _encoded(self) -> EncodedReviews:
        return encoded_reviews(self.source, self.encoding, self.cache_dir, self._given_vocabulary)

    @cached_property
    def _splits(self) -> dict[str, Split]:
        """All splits, with the words that the model reads and no others."""
        padding, limits = self.encoding.padding, {"first": self.first_words, "last": self.last_words}
        return {
            name: replace(split, tokens=keep_words(split.tokens, padding, **limits))
            for name, split in self._encoded.splits.items()
        }

    @property
    def vocabulary(self) -> Vocabulary:
        """The words behind the indices."""
        return self._encoded.vocabulary

    def split(self, name: str) -> Split:
        """A split, or ``all`` of them one behind the other, with the words that the model reads and no others."""
        if name == "all":
            every = [vars(split).values() for split in self._splits.values()]
            return Split(*map(np.concatenate, zip(*every, strict=True)))
        return self._splits[name]

    def prepare_data(self) -> None:
        """Encode the reviews, while the other processes of the machine wait to find them in the cache."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        self.split("train")

    def loader(self, name: str, *, shuffled: bool = False) -> DataLoader[tuple[Tensor, Tensor]]:
        """Batches (tokens, labels) of the split ``name``.

        Raises:
            UserError: there are more processes than reviews in a batch, or in a split.
        """
        replicas, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        # a training needs its other splits in the end
        self.check_shares(replicas, *(() if shuffled else (name,)))
        split = self.split(name)
        size, seed = (self.batch_size, self.seed) if shuffled else (self.evaluation_batch_size, None)
        sampler = BatchSampler(len(split.labels), size, seed, replicas=replicas, rank=rank)
        return DataLoader(ReviewDataset(split), sampler=sampler, batch_size=None)

    def check_shares(self, replicas: int, *names: str) -> None:
        """Refuse, before anything is trained, what would leave one of ``replicas`` processes without a review.

        Raises:
            UserError: a batch or one of the splits ``names``, by default of all, is smaller than that.
        """
        sizes = {"data.batch_size": self.batch_size, "data.evaluation_batch_size": self.evaluation_batch_size}
        sizes |= {f"the {name} split": len(self.split(name).labels) for name in names or SPLITS}
        for name, size in sizes.items():
            if size < replicas:
                raise UserError(
                    f"{name} must have a review for each of the {replicas} processes, got {size}: give more reviews, "
                    "or fewer trainer.devices",
                    exit_code=2,
                )

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return self.loader("train", shuffled=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return self.loader("validation")

    def test_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return self.loader("test")
