"""What all classifiers share: embedded words below, one logit above."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rnn_imdb.common.errors import choose
from rnn_imdb.data.text import PAD_INDEX
from rnn_imdb.model.embedding import bigrams, drop_components, drop_words
from rnn_imdb.model.initialization import INITIALIZERS
from rnn_imdb.scan import dot, lookup


class Classifier(nn.Module):
    """P(positive) = σ(w · features + c), with the features of a review from its embedded words

        x_t = embedding[token_t]  (+ bigrams[token_{t-1}, token_t])

    A subclass adds what makes the features, then ``head``, then calls ``initialize``. Only training drops anything.

    Args:
        vocabulary_size, embedding_dim: V and E.
        mask_padding: whether padding (token 0) is skipped; in the lecture's models it is an ordinary word.
        init: a name in ``initialization.INITIALIZERS``.
        bigrams: how many pairs of neighbouring words have a vector of their own.
        word_dropout: share of the words replaced by ``<unk>``.
        embedding_dropout: share of the components of x_t set to zero, the same at all steps of a review.
        head_dropout: share of the features set to zero. Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov,
            Dropout: A Simple Way to Prevent Neural Networks from Overfitting (2014).

    Attributes:
        pairs: the pairs of words that have a vector, as ``embedding.frequent_pairs`` gives them; none until they are
            set. A checkpoint holds them beside the vocabulary.
    """

    head: nn.Linear
    options: dict[str, Any]

    def __new__(cls, *_: Any, **options: Any) -> Any:
        # whatever class it is of, its arguments are known to the checkpoint of one's own Trainer
        made = super().__new__(cls)
        object.__setattr__(made, "options", options)
        return made

    def __init__(
        self,
        *,
        vocabulary_size: int = 10_000,
        embedding_dim: int = 32,
        mask_padding: bool = False,
        init: str = "keras",
        bigrams: int = 0,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        head_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.init = init
        self.word_dropout = word_dropout
        self.embedding_dropout = embedding_dropout
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.bigrams = nn.Embedding(bigrams, embedding_dim) if bigrams else None
        no_pairs = torch.empty(0, dtype=torch.int64)
        # distributed processes send each other every buffer at every step
        self.pairs = nn.Buffer(no_pairs, persistent=False) if bigrams else no_pairs
        self.head_dropout = nn.Dropout(head_dropout)

    def initialize(self, *layers: nn.Linear | nn.Conv1d) -> None:
        """Draw embeddings, ``layers`` and the head; at first a pair says no more than its words."""
        initializer = choose("init", INITIALIZERS, self.init)()
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
        """x_1 .. x_T (B, T, E) of reviews (B, T); in training, with dropout."""
        tokens = drop_words(tokens, self.word_dropout, self.training)
        inputs = lookup(self.embedding.weight, tokens)
        if self.bigrams is not None:
            inputs = inputs + bigrams(tokens, self.pairs, self.bigrams.weight)
        return drop_components(inputs, self.embedding_dropout, self.training)

    def decide(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
        """w · features + c."""
        return dot(self.head_dropout(features), self.head.weight[0], self.head.bias)

    def logits_from(
        self, inputs: Float[Tensor, "batch time embedding"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, " batch"]:
        """``forward`` from embedded words (B, T, E); ``mask`` (B, T) is True at words, None skips nothing."""
        raise NotImplementedError

    def describe(self) -> str:
        """What stands between embedding and head, in a few words."""
        raise NotImplementedError
