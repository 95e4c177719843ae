"""Embedding → RNN → readout → one logit."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rnn_imdb.common.errors import choose
from rnn_imdb.model.cell import ACTIVATIONS, TanhCell
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.embedding import drop_words
from rnn_imdb.model.readout import READOUTS, Readout
from rnn_imdb.scan import project_inputs


class ReviewClassifier(Classifier):
    """P(positive) = σ(w · readout(h_1 .. h_T) + c), where h are the RNN's states over the embedded words.

    With ``bidirectional``, h_t is [h_t; h'_t], where h' reads from the last word to the first, with an A' and b' of
    its own; the readout ``last`` then reads [h_T; h'_1]. Schuster and Paliwal, Bidirectional Recurrent Neural Networks
    (1997).

    Args:
        sequence_length: tokens in a review, T; only the readout ``all`` depends on it.
        state_dim: size of a state h_t, H.
        readout: a name in ``readout.READOUTS``.
        activation: of the recurrence, a name in ``cell.ACTIVATIONS``.
        bidirectional: whether a second recurrence reads backwards.
        bias, scan, spectral_radius, recurrent: of the recurrence, as for ``cell.TanhCell``.
        shared: arguments of ``Classifier``.

    >>> classifier = ReviewClassifier(readout="all")
    >>> classifier.head.weight.numel(), classifier(torch.zeros(4, 500, dtype=torch.int64)).shape
    (16000, torch.Size([4]))
    """

    def __init__(
        self,
        *,
        sequence_length: int = 500,
        state_dim: int = 32,
        readout: str = "last",
        activation: str = "tanh",
        bidirectional: bool = False,
        bias: bool = True,
        scan: str = "auto",
        spectral_radius: float | None = None,
        recurrent: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)

        def make_cell() -> TanhCell:
            return choose("activation", ACTIVATIONS, activation)(
                self.embedding.embedding_dim,
                state_dim,
                bias=bias,
                scan=scan,
                init=self.init,
                spectral_radius=spectral_radius,
                recurrent=recurrent,
            )

        self.cell = make_cell()
        self.backward_cell = make_cell() if bidirectional else None
        size = 2 * state_dim if bidirectional else state_dim
        self.readout = choose("model.readout", READOUTS, readout, Readout)(size, sequence_length)
        self.readout_name = readout
        self.head = nn.Linear(self.readout.features, 1)
        self.initialize()

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, " batch"]:
        """Logits (B,) of reviews (B, T); σ(logit) is the probability that the review is positive."""
        words, embedding = self._words(tokens)
        return self.logits_from(words, self.mask(tokens), embedding)

    def running_logits(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time"]:
        """w · h_t + c for t = 1 .. T, (B, T): what a model that reads forwards to its ``last`` state says so far."""
        words, embedding = self._words(tokens)
        states = self.cell(words, self.mask(tokens), embedding=embedding)
        return project_inputs(self.head_dropout(states), self.head.weight, self.head.bias).squeeze(2)

    def _words(self, tokens: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embedded words and None, or words and their embedding where the scan is faster to look them up itself."""
        if self.bigrams is not None or (self.training and self.embedding_dropout):
            return self.embed(tokens), None
        return drop_words(tokens, self.word_dropout, self.training), self.embedding.weight

    def logits_from(
        self,
        inputs: Float[Tensor, "batch time embedding"] | Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"] | None = None,
        embedding: Float[Tensor, "vocabulary embedding"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """``forward`` from embedded words (B, T, E), or with an ``embedding`` (V, E) from words (B, T)."""
        options = {"embedding": embedding, "only_last": self.readout.only_last}
        states = self.cell(inputs, mask, **options)
        if self.backward_cell is not None:
            back = self.backward_cell(inputs.flip(1), None if mask is None else mask.flip(1), **options)
            states = torch.cat([states, back.flip(1)], dim=2)
        return self.decide(self.readout(states, mask))

    def describe(self) -> str:
        state, embedding = self.cell.state_dim, self.cell.embedding_dim
        ways = "" if self.backward_cell is None else " forwards and backwards"
        activation = "activation identity, " if self.cell.linear else ""
        activation += "" if self.cell.recurrent else "recurrent part zero, "
        return f"A {state} x ({state} + {embedding}){ways}, {activation}readout {self.readout_name}"
