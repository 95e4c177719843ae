"""The tanh RNN cell with one parameter matrix."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from rnn_imdb.inputs import project_inputs, project_tokens
from rnn_imdb.scan import tanh_scan


class TanhCell(nn.Module):
    """The simple RNN,

        h_t = tanh(A [h_{t-1}; x_t] + b)

    with one matrix A for every step, however long the sequence. Elman, Finding Structure in Time (1990).
    tanh keeps each state inside (-1, 1), where a linear recurrence would vanish or explode.

    Initialised as Keras's SimpleRNN: the recurrent part of A orthogonal, its input part Glorot-uniform, b zero.
    (torch.nn.RNN draws everything from ±1/√H; with that the lecture's model needs several times as many epochs.)

    Args:
        embedding_dim: size of an input x_t, E.
        state_dim: size of a state h_t, H.
        bias: whether there is an intercept b.
        scan: backend of ``rnn_imdb.scan.tanh_scan``.
    """

    def __init__(self, embedding_dim: int = 32, state_dim: int = 32, *, bias: bool = True, scan: str = "auto") -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.state_dim = state_dim
        self.scan = scan
        self.A = nn.Parameter(torch.empty(state_dim, state_dim + embedding_dim))
        self.b = nn.Parameter(torch.empty(state_dim)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw A and b anew."""
        with torch.no_grad():
            nn.init.orthogonal_(self.recurrent_weight)
            nn.init.xavier_uniform_(self.input_weight)
            if self.b is not None:
                nn.init.zeros_(self.b)

    @property
    def recurrent_weight(self) -> Float[Tensor, "state state"]:
        """The part of A that multiplies h_{t-1}, a view."""
        return self.A[:, : self.state_dim]

    @property
    def input_weight(self) -> Float[Tensor, "state embedding"]:
        """The part of A that multiplies x_t, a view."""
        return self.A[:, self.state_dim :]

    def step(
        self, state: Float[Tensor, "batch state"], inputs: Float[Tensor, "batch embedding"]
    ) -> Float[Tensor, "batch state"]:
        """One step, as the equation says it."""
        return torch.tanh(F.linear(torch.cat([state, inputs], dim=1), self.A, self.b))

    def forward(
        self,
        inputs: Float[Tensor, "batch time embedding"],
        mask: Bool[Tensor, "batch time"] | None = None,
        initial_state: Float[Tensor, "batch state"] | None = None,
    ) -> Float[Tensor, "batch time state"]:
        """All states h_1 .. h_T.

        Args:
            inputs: x_1 .. x_T, (B, T, E).
            mask: True at real steps, (B, T); the others carry the previous state on.
            initial_state: h_0, (B, H); default zeros.

        Returns:
            (B, T, H).
        """
        return self.recur(project_inputs(inputs, self.input_weight, self.b), mask, initial_state)

    def embed(
        self,
        tokens: Int[Tensor, "batch time"],
        embedding: Float[Tensor, "vocabulary embedding"],
        mask: Bool[Tensor, "batch time"] | None = None,
        *,
        only_last: bool = False,
    ) -> Float[Tensor, "batch steps state"]:
        """``forward`` of the embedded ``tokens`` (B, T), without making x_1 .. x_T where that is slower.

        With ``only_last``, h_T alone, (B, 1, H), without a gradient for each of the other states.
        """
        return self.recur(project_tokens(tokens, embedding, self.input_weight, self.b), mask, only_last=only_last)

    def recur(
        self,
        projected: Float[Tensor, "batch time state"],
        mask: Bool[Tensor, "batch time"] | None = None,
        initial_state: Float[Tensor, "batch state"] | None = None,
        *,
        only_last: bool = False,
    ) -> Float[Tensor, "batch steps state"]:
        """All states, or the last alone, from the input part ``A_x x_t + b`` of each step (B, T, H)."""
        # under autocast the product may come in a shorter dtype than the recurrence runs in
        projected = projected.to(self.A.dtype)
        if initial_state is None:
            initial_state = projected.new_zeros(len(projected), self.state_dim)
        return tanh_scan(projected, self.recurrent_weight, initial_state, mask, backend=self.scan, only_last=only_last)

    def extra_repr(self) -> str:
        return f"A={self.state_dim}x({self.state_dim}+{self.embedding_dim}), bias={self.b is not None}"
