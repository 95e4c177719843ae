"""From tokens to the vectors that an encoder reads: pairs of words, and the noise of a training."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from rnn_imdb.inputs import lookup
from rnn_imdb.text import PAD_INDEX, UNKNOWN_INDEX

# odd, so that the product is one-to-one, and small enough for 32 bits of words to stay below 2^63
_FACTOR = 0x45D9F3B


def bucket(
    before: Int[Tensor, "batch time"], token: Int[Tensor, "batch time"], buckets: int
) -> Int[Tensor, "batch time"]:
    """The row that stands for a pair of words (below 2^16 each): a hash in 0 .. ``buckets`` - 1, everywhere the same.

    Weinberger, Dasgupta, Langford, Smola and Attenberg, Feature Hashing for Large Scale Multitask Learning (2009).
    """
    product = (before * 2**16 + token) * _FACTOR
    return (product ^ (product >> 29)) % buckets


def bigrams(
    tokens: Int[Tensor, "batch time"], table: Float[Tensor, "buckets embedding"]
) -> Float[Tensor, "batch time embedding"]:
    """table[bucket(token_{t-1}, token_t)]; zeros at the first word and where one of the two is padding.

    Joulin, Grave, Bojanowski and Mikolov, Bag of Tricks for Efficient Text Classification (2016).
    """
    before = F.pad(tokens[:, :-1], (1, 0), value=PAD_INDEX)
    missing = (tokens == PAD_INDEX) | (before == PAD_INDEX)
    return lookup(table, bucket(before, tokens, len(table))).masked_fill(missing[:, :, None], 0)


def drop_words(tokens: Int[Tensor, "batch time"], rate: float) -> Int[Tensor, "batch time"]:
    """``tokens`` with a share ``rate`` of the words replaced by ``<unk>``, drawn word by word.

    Iyyer, Manjunatha, Boyd-Graber and Daumé III, Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification (2015).
    """
    dropped = (torch.rand(tokens.shape, device=tokens.device) < rate) & (tokens != PAD_INDEX)
    return tokens.masked_fill(dropped, UNKNOWN_INDEX)


def drop_components(
    inputs: Float[Tensor, "batch time embedding"], rate: float
) -> Float[Tensor, "batch time embedding"]:
    """``inputs`` with a share ``rate`` of a review's components zero at all its steps, the others divided by 1 - rate.

    Gal and Ghahramani, A Theoretically Grounded Application of Dropout in Recurrent Neural Networks (2016).
    """
    return inputs * F.dropout(inputs.new_ones(len(inputs), 1, inputs.shape[2]), rate)
