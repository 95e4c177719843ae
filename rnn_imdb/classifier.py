"""Embedding → tanh RNN → readout → one logit."""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rnn_imdb.cell import TanhCell
from rnn_imdb.readout import make_readout
from rnn_imdb.text import PAD_INDEX


class ReviewClassifier(nn.Module):
    """P(positive) = σ(w · readout(h_1 .. h_T) + c), where h are the tanh RNN's states over the embedded words.

    Initialised as in Keras: embedding U(-0.05, 0.05), head Glorot-uniform with a zero bias.

    Args:
        vocabulary_size: number of words, V.
        sequence_length: tokens in a review, T; only the readout ``all`` depends on it.
        embedding_dim: E.
        state_dim: H.
        readout: a name in ``rnn_imdb.choices.READOUTS``.
        bias: whether the recurrence has an intercept.
        mask_padding: whether padding (token 0) is skipped; in the lecture's models it is an ordinary word.
        scan: backend of the recurrence.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int = 10_000,
        sequence_length: int = 500,
        embedding_dim: int = 32,
        state_dim: int = 32,
        readout: str = "last",
        bias: bool = True,
        mask_padding: bool = False,
        scan: str = "auto",
    ) -> None:
        super().__init__()
        self.mask_padding = mask_padding
        self.embedding = nn.Embedding(vocabulary_size, embedding_dim)
        self.cell = TanhCell(embedding_dim, state_dim, bias=bias, scan=scan)
        self.readout = make_readout(readout, state_dim=state_dim, sequence_length=sequence_length)
        self.head = nn.Linear(self.readout.features, 1)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, " batch"]:
        """Logits (B,) of reviews (B, T); σ(logit) is the probability that the review is positive."""
        mask = tokens != PAD_INDEX if self.mask_padding else None
        states = self.cell.embed(tokens, self.embedding.weight, mask)  # (B, T, H)
        return self.head(self.readout(states, mask)).squeeze(1)

    def logits_from(
        self, inputs: Float[Tensor, "batch time embedding"], mask: Bool[Tensor, "batch time"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Logits (B,) of embedded reviews x_1 .. x_T (B, T, E): ``forward`` of words that need not be in a vocabulary.

        Steps where ``mask`` (B, T) is False are padding.
        """
        return self.head(self.readout(self.cell(inputs, mask), mask)).squeeze(1)
