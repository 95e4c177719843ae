"""Embedding → RNN → readout → one logit."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rnn_imdb.cell import LinearCell, make_cell
from rnn_imdb.initialization import make_initializer
from rnn_imdb.readout import make_readout
from rnn_imdb.text import PAD_INDEX


class Classifier(nn.Module):
    """P(positive) = σ(w · features + c), with the features of a review from its embedded words.

    A class of its own adds what makes the features, then ``head``, then calls ``initialize``.

    Args:
        vocabulary_size: number of words, V.
        embedding_dim: E.
        mask_padding: whether padding (token 0) is skipped; in the lecture's models it is an ordinary word.
    """

    head: nn.Linear

    def __init__(self, vocabulary_size: int, embedding_dim: int, *, mask_padding: bool) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)

    def initialize(self, init: str, *layers: nn.Linear | nn.Conv1d) -> None:
        """Draw the embedding, ``layers`` and the head; ``init`` is a name in ``rnn_imdb.choices.INITIALIZERS``."""
        initializer = make_initializer(init)
        initializer.embedding(self.embedding)
        for layer in (*layers, self.head):
            initializer.layer(layer)

    def mask(self, tokens: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch time"] | None:
        """True at words; None where padding is a word like others."""
        return tokens != PAD_INDEX if self.mask_padding else None

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, " batch"]:
        """Logits (B,) of reviews (B, T); σ(logit) is the probability that the review is positive."""
        return self.logits_from(self.embedding(tokens), self.mask(tokens))

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

    Args:
        vocabulary_size: number of words, V.
        sequence_length: tokens in a review, T; only the readout ``all`` depends on it.
        embedding_dim: E.
        state_dim: H.
        readout: a name in ``rnn_imdb.choices.READOUTS``.
        activation: of the recurrence, a name in ``rnn_imdb.choices.ACTIVATIONS``.
        bias: whether the recurrence has an intercept.
        mask_padding: whether padding (token 0) is skipped; in the lecture's models it is an ordinary word.
        scan: backend of the recurrence.
        init: a name in ``rnn_imdb.choices.INITIALIZERS``.
        spectral_radius: of the recurrence at its start; None leaves it as drawn.
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
        bias: bool = True,
        mask_padding: bool = False,
        scan: str = "auto",
        init: str = "keras",
        spectral_radius: float | None = None,
    ) -> None:
        super().__init__(vocabulary_size, embedding_dim, mask_padding=mask_padding)
        self.cell = make_cell(
            activation, embedding_dim, state_dim, bias=bias, scan=scan, init=init, spectral_radius=spectral_radius
        )
        self.readout = make_readout(readout, state_dim=state_dim, sequence_length=sequence_length)
        self.readout_name = readout
        self.head = nn.Linear(self.readout.features, 1)
        self.initialize(init)

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, " batch"]:
        """Logits (B,) of reviews (B, T); σ(logit) is the probability that the review is positive."""
        mask = self.mask(tokens)
        # as logits_from, without the embedded words where that is slower
        states = self.cell.embed(tokens, self.embedding.weight, mask, only_last=self.readout.only_last)
        return self.head(self.readout(states, mask)).squeeze(1)

    def logits_from(
        self, inputs: Float[Tensor, "batch time embedding"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, " batch"]:
        return self.head(self.readout(self.cell(inputs, mask), mask)).squeeze(1)

    def describe(self) -> str:
        state, embedding = self.cell.state_dim, self.cell.embedding_dim
        activation = "activation identity, " if isinstance(self.cell, LinearCell) else ""
        return f"A {state} x ({state} + {embedding}), {activation}readout {self.readout_name}"
