"""Embedding → RNN → readout → one logit."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rnn_imdb.model.cell import LinearCell, TanhCell, make_cell
from rnn_imdb.model.classifier import Classifier
from rnn_imdb.model.readout import make_readout


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
        readout: a name in ``readout.READOUTS``.
        activation: of the recurrence, a name in ``cell.ACTIVATIONS``.
        bidirectional: whether a second recurrence reads backwards.
        bias: whether the recurrence has an intercept.
        mask_padding: whether padding (token 0) is skipped; in the lecture's models it is an ordinary word.
        scan: backend of the recurrence.
        init: a name in ``initialization.INITIALIZERS``.
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
