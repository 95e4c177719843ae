"""Embedding → RNN → readout → one logit."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rnn_imdb.cell import LinearCell, TanhCell, make_cell
from rnn_imdb.embedding import bigrams, drop_components, drop_words
from rnn_imdb.initialization import make_initializer
from rnn_imdb.inputs import lookup
from rnn_imdb.readout import make_readout
from rnn_imdb.text import PAD_INDEX


class Classifier(nn.Module):
    """P(positive) = σ(w · features + c), with the features of a review from its embedded words

        x_t = embedding[token_t]  (+ bigrams[token_{t-1}, token_t])

    A class of its own adds what makes the features, then ``head``, then calls ``initialize``. Nothing is dropped but
    in training.

    Args:
        vocabulary_size: number of words, V.
        embedding_dim: E.
        mask_padding: whether padding (token 0) is skipped; in the lecture's models it is an ordinary word.
        bigrams: how many pairs of neighbouring words have a vector of their own.
        word_dropout: share of the words replaced by ``<unk>``.
        embedding_dropout: share of the components of x_t set to zero, the same at all steps of a review.
        head_dropout: share of the features set to zero. Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov,
            Dropout: A Simple Way to Prevent Neural Networks from Overfitting (2014).

    Attributes:
        pairs: the pairs of words that have one, as ``rnn_imdb.embedding.frequent_pairs`` gives them: a part of the
            model's vocabulary, set after construction; none at first.
    """

    head: nn.Linear

    def __init__(
        self,
        vocabulary_size: int,
        embedding_dim: int,
        *,
        mask_padding: bool,
        bigrams: int = 0,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.word_dropout = word_dropout
        self.embedding_dropout = embedding_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.bigrams = nn.Embedding(bigrams, embedding_dim) if bigrams else None
        self.pairs = torch.empty(0, dtype=torch.int64)
        self.head_dropout = nn.Dropout(head_dropout)

    def initialize(self, init: str, *layers: nn.Linear | nn.Conv1d) -> None:
        """Draw embeddings, ``layers`` and the head; ``init`` is a name in ``rnn_imdb.choices.INITIALIZERS``.

        Pairs of words start at zero: at first a pair says no more than its words.
        """
        initializer = make_initializer(init)
        initializer.embedding(self.embedding)
        if self.bigrams is not None:
            nn.init.zeros_(self.bigrams.weight)
        for layer in (*layers, self.head):
            initializer.layer(layer)

    def mask(self, tokens: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch time"] | None:
        """True at words; None where padding is a word like others."""
        return tokens != PAD_INDEX if self.mask_padding else None

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, " batch"]:
        """Logits (B,) of reviews (B, T); σ(logit) is the probability that the review is positive."""
        return self.logits_from(self.embed(tokens), self.mask(tokens))

    def embed(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time embedding"]:
        """x_1 .. x_T (B, T, E) of reviews (B, T); in training, with what is dropped."""
        tokens = self.drop_words(tokens)
        inputs = lookup(self.embedding.weight, tokens)
        if self.bigrams is not None:
            inputs = inputs + bigrams(tokens, self.pairs.to(tokens.device), self.bigrams.weight)
        dropping = self.training and self.embedding_dropout
        return drop_components(inputs, self.embedding_dropout) if dropping else inputs

    def drop_words(self, tokens: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
        """The words that are read: in training, without those that are dropped."""
        return drop_words(tokens, self.word_dropout) if self.training and self.word_dropout else tokens

    def decide(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        """w · features + c."""
        return self.head(self.head_dropout(features)).squeeze(1)

    def logits_from(
        self, inputs: Float[Tensor, "batch time embedding"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, " batch"]:
        """``forward`` from embedded words (B, T, E); ``mask`` (B, T) is True at words, None skips nothing."""
        raise NotImplementedError

    def describe(self) -> str:
        """What stands between embedding and head, in a few words."""
        raise NotImplementedError


class ReviewClassifier(Classifier):
    """P(positive) = σ(w · readout(h_1 .. h_T) + c), where h are the RNN's states over the embedded words.

    With ``bidirectional``, h_t is [h_t; h'_t], where h' reads from the last word to the first, with an A' and b' of
    its own; the readout ``last`` then reads [h_T; h'_1]. Schuster and Paliwal, Bidirectional Recurrent Neural Networks
    (1997).

    Args:
        vocabulary_size: number of words, V.
        sequence_length: tokens in a review, T; only the readout ``all`` depends on it.
        embedding_dim: E.
        state_dim: H.
        readout: a name in ``rnn_imdb.choices.READOUTS``.
        activation: of the recurrence, a name in ``rnn_imdb.choices.ACTIVATIONS``.
        bidirectional: whether a second recurrence reads backwards.
        bias: whether the recurrence has an intercept.
        mask_padding: whether padding (token 0) is skipped; in the lecture's models it is an ordinary word.
        scan: backend of the recurrence.
        init: a name in ``rnn_imdb.choices.INITIALIZERS``.
        spectral_radius: of the recurrence at its start; None leaves it as drawn.
        recurrent: False holds the recurrent part of A at zero.
        shared: ``bigrams`` and what is dropped, as for ``Classifier``.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int = 10_000,
        sequence_length: int = 500,
        embedding_dim: int = 32,
        state_dim: int = 32,
        readout: str = "last",
        activation: str = "tanh",
        bidirectional: bool = False,
        bias: bool = True,
        mask_padding: bool = False,
        scan: str = "auto",
        init: str = "keras",
        spectral_radius: float | None = None,
        recurrent: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(vocabulary_size, embedding_dim, mask_padding=mask_padding, **shared)
        options: dict[str, Any] = {"bias": bias, "scan": scan, "init": init}
        options |= {"spectral_radius": spectral_radius, "recurrent": recurrent}
        self.cell = make_cell(activation, embedding_dim, state_dim, **options)
        self.backward_cell = make_cell(activation, embedding_dim, state_dim, **options) if bidirectional else None
        size = 2 * state_dim if bidirectional else state_dim
        self.readout = make_readout(readout, state_dim=size, sequence_length=sequence_length)
        self.readout_name = readout
        self.head = nn.Linear(self.readout.features, 1)
        self.initialize(init)

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, " batch"]:
        """Logits (B,) of reviews (B, T); σ(logit) is the probability that the review is positive."""
        if self.bigrams is not None or (self.training and self.embedding_dropout):
            return super().forward(tokens)

        # as logits_from, without the embedded words where that is slower
        return self._logits(
            lambda cell, tokens, mask: cell.embed(
                tokens, self.embedding.weight, mask, only_last=self.readout.only_last
            ),
            self.drop_words(tokens),
            self.mask(tokens),
        )

    def logits_from(
        self, inputs: Float[Tensor, "batch time embedding"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, " batch"]:
        return self._logits(
            lambda cell, inputs, mask: cell(inputs, mask, only_last=self.readout.only_last), inputs, mask
        )

    def _logits(
        self, read: Callable[[TanhCell, Tensor, Tensor | None], Tensor], steps: Tensor, mask: Tensor | None
    ) -> Tensor:
        """``read`` gives a cell's states over ``steps`` (B, T, ...)."""
        states = read(self.cell, steps, mask)
        if self.backward_cell is not None:
            reverse = read(self.backward_cell, steps.flip(1), None if mask is None else mask.flip(1))
            states = torch.cat([states, reverse.flip(1)], dim=2)
        return self.decide(self.readout(states, mask))

    def describe(self) -> str:
        state, embedding = self.cell.state_dim, self.cell.embedding_dim
        ways = "" if self.backward_cell is None else " forwards and backwards"
        activation = "activation identity, " if isinstance(self.cell, LinearCell) else ""
        activation += "" if self.cell.recurrent else "recurrent part zero, "
        return f"A {state} x ({state} + {embedding}){ways}, {activation}readout {self.readout_name}"
