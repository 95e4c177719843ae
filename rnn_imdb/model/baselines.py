"""Classifiers without a recurrence: fully connected, and convolutional."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rnn_imdb.model.classifier import Classifier


class DenseClassifier(Classifier):
    """P(positive) = σ(w · ReLU(M [x_1; ...; x_T] + b) + c): fully connected over the embedded words, side by side.

    M has a weight for each component of each step, so a review moved by one step is another input. Under a mask
    zeros stand for padding. Bengio, Ducharme, Vincent and Jauvin, A Neural Probabilistic Language Model (2003), reads
    a window of words in this way.

    Args:
        sequence_length: tokens in a review, T.
        state_dim: hidden units, H.
        shared: arguments of ``Classifier``.

    >>> DenseClassifier(sequence_length=20)(torch.zeros(4, 20, dtype=torch.int64)).shape
    torch.Size([4])
    """

    def __init__(self, *, sequence_length: int = 500, state_dim: int = 32, **shared: Any) -> None:
        super().__init__(**shared)
        self.encoder = nn.Linear(sequence_length * self.embedding.embedding_dim, state_dim)
        self.head = nn.Linear(state_dim, 1)
        self.initialize(self.encoder)

    def logits_from(
        self, inputs: Float[Tensor, "batch time embedding"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, " batch"]:
        if mask is not None:
            inputs = inputs.masked_fill(~mask[:, :, None], 0)
        hidden = torch.relu(self.encoder(inputs.flatten(1)))  # (B, H)
        return self.decide(hidden)

    def describe(self) -> str:
        return f"dense {self.encoder.in_features:,} -> {self.encoder.out_features}"


class ConvClassifier(Classifier):
    """P(positive) = σ(w · max_t ReLU(M [x_{t-K/2}; ...; x_{t+(K-1)/2}] + b) + c): H filters over a window at each word.

    Zeros stand beyond both ends of a review. Under a mask they stand for padding too, and only the windows at words
    count, so padding changes nothing. Kim, Convolutional Neural Networks for Sentence Classification (2014), with
    windows of one width.

    Args:
        state_dim: filters, H.
        kernel_size: words in a window, K.
        shared: arguments of ``Classifier``.

    >>> ConvClassifier(kernel_size=3)(torch.zeros(4, 20, dtype=torch.int64)).shape
    torch.Size([4])
    """

    def __init__(self, *, state_dim: int = 32, kernel_size: int = 5, **shared: Any) -> None:
        super().__init__(**shared)
        self.encoder = nn.Conv1d(self.embedding.embedding_dim, state_dim, kernel_size, padding=kernel_size // 2)
        self.head = nn.Linear(state_dim, 1)
        self.initialize(self.encoder)

    def logits_from(
        self, inputs: Float[Tensor, "batch time embedding"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, " batch"]:
        if mask is not None:
            inputs = inputs.masked_fill(~mask[:, :, None], 0)
        # an even width gives one window more than there are words
        windows = torch.relu(self.encoder(inputs.transpose(1, 2)))[:, :, : inputs.shape[1]]  # (B, H, T)
        if mask is not None:
            # zero cannot win: no ReLU is below it
            windows = windows.masked_fill(~mask[:, None], 0)
        return self.decide(windows.amax(dim=2))

    def describe(self) -> str:
        return f"{self.encoder.out_channels} filters over {self.encoder.kernel_size[0]} words"
