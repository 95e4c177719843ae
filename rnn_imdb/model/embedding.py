"""From tokens to the vectors that an encoder reads: pairs of words, and dropout of words and of their components."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from rnn_imdb.data.text import PAD_INDEX, UNKNOWN_INDEX
from rnn_imdb.scan import lookup

# words are below 2^16, so that a pair of them is one number
_FACTOR = 2**16


def frequent_pairs(rows: Int[np.ndarray, "reviews time"], most: int) -> Int[Tensor, " pairs"]:
    """The ``most`` most frequent pairs of neighbouring words in ``rows``, padding left out, as sorted numbers.

    A pair is 2^16 · first word + second word; of equally frequent ones the smaller numbers are taken.
    """
    if not most:
        return torch.empty(0, dtype=torch.int64)
    words = rows.astype(np.int64)
    numbers = words[:, :-1] * _FACTOR + words[:, 1:]
    real = (words[:, :-1] != PAD_INDEX) & (words[:, 1:] != PAD_INDEX)
    pairs, counts = np.unique(numbers[real], return_counts=True)
    return torch.from_numpy(np.sort(pairs[np.argsort(-counts, kind="stable")[:most]]))


def bigrams(
    tokens: Int[Tensor, "batch time"], pairs: Int[Tensor, " pairs"], table: Float[Tensor, "rows embedding"]
) -> Float[Tensor, "batch time embedding"]:
    """The row of ``table`` that stands for (token_{t-1}, token_t), zeros where that is none of ``pairs``.

    Wang and Manning, Baselines and Bigrams: Simple, Good Sentiment and Topic Classification (2012).
    """
    if not len(pairs):
        return table.new_zeros(*tokens.shape, table.shape[1])
    tokens = tokens.long()
    numbers = F.pad(tokens[:, :-1], (1, 0), value=PAD_INDEX) * _FACTOR + tokens
    rows = torch.searchsorted(pairs, numbers).clamp(max=len(pairs) - 1)
    return lookup(table, rows).masked_fill((pairs[rows] != numbers)[:, :, None], 0)


def drop_words(tokens: Int[Tensor, "batch time"], rate: float, training: bool = True) -> Int[Tensor, "batch time"]:
    """``tokens`` with, in training, a share ``rate`` of the words replaced by ``<unk>``, drawn word by word.

    Iyyer, Manjunatha, Boyd-Graber and Daumé III, Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification (2015).
    """
    if not (training and rate):
        return tokens
    dropped = (torch.rand(tokens.shape, device=tokens.device) < rate) & (tokens != PAD_INDEX)
    return tokens.masked_fill(dropped, UNKNOWN_INDEX)


def drop_components(
    inputs: Float[Tensor, "batch time embedding"], rate: float, training: bool = True
) -> Float[Tensor, "batch time embedding"]:
    """``inputs`` with, in training, a share ``rate`` of a review's components zero at all its steps.

    The others are divided by 1 - rate.

    Gal and Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks (2016).
    """
    if not (training and rate):
        return inputs
    return inputs * F.dropout(inputs.new_ones(len(inputs), 1, inputs.shape[2]), rate)
