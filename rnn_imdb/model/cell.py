"""The RNN cell with one parameter matrix: tanh, and linear."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rnn_imdb.common.errors import choose
from rnn_imdb.data.text import PAD_INDEX
from rnn_imdb.model.initialization import INITIALIZERS, spectral_radius
from rnn_imdb.scan import scan_inputs


class TanhCell(nn.Module):
    """The simple RNN,

        h_t = tanh(A [h_{t-1}; x_t] + b)

    with one matrix A for every step, however long the sequence. Elman, Finding Structure in Time (1990).
    tanh keeps each state inside (-1, 1), where a linear recurrence would vanish or explode. ``lecture.SimpleRNN`` is
    the same as a plain loop.

    Initialised by default as Keras's SimpleRNN: the recurrent part of A orthogonal, its input part Glorot-uniform, b
    zero. (torch.nn.RNN draws everything from ±1/√H; with that the lecture's model needs several times as many epochs.)

    Args:
        embedding_dim: size of an input x_t, E.
        state_dim: size of a state h_t, H.
        bias: whether there is an intercept b.
        scan: backend of ``rnn_imdb.scan.tanh_scan``.
        init: a name in ``initialization.INITIALIZERS``.
        spectral_radius: largest |eigenvalue| of the recurrent part of A at the start; None leaves it as drawn.
        recurrent: False holds the recurrent part of A at zero, so that h_t knows x_t alone.

    Raises:
        ValueError: a spectral radius for a recurrent part of zeros.

    >>> cell = TanhCell(embedding_dim=32, state_dim=32)
    >>> cell.A.numel() + cell.b.numel(), cell(torch.zeros(4, 500, 32)).shape
    (2080, torch.Size([4, 500, 32]))
    """

    linear = False

    def __init__(
        self,
        embedding_dim: int = 32,
        state_dim: int = 32,
        *,
        bias: bool = True,
        scan: str = "auto",
        init: str = "keras",
        spectral_radius: float | None = None,
        recurrent: bool = True,
    ) -> None:
        super().__init__()
        if spectral_radius is not None and not recurrent:
            raise ValueError(f"spectral_radius must be None where recurrent is False, got {spectral_radius}")
        self.embedding_dim = embedding_dim
        self.state_dim = state_dim
        self.scan = scan
        self.init = init
        self.spectral_radius = spectral_radius
        self.recurrent = recurrent
        self.A = nn.Parameter(torch.empty(state_dim, state_dim + embedding_dim))
        self.b = nn.Parameter(torch.empty(state_dim)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw A and b anew."""
        with torch.no_grad():
            choose("init", INITIALIZERS, self.init)().recurrence(self.recurrent_weight, self.input_weight, self.b)
            if self.spectral_radius is not None:
                self.recurrent_weight.mul_(self.spectral_radius / spectral_radius(self.recurrent_weight))
            if not self.recurrent:
                self.A[:, : self.state_dim] = 0

    @property
    def recurrent_weight(self) -> Float[Tensor, "state state"]:
        """The part of A that multiplies h_{t-1}: a view, or where it is held at zero, a copy without a gradient."""
        part = self.A[:, : self.state_dim]
        return part if self.recurrent else part.detach().clone()

    @property
    def input_weight(self) -> Float[Tensor, "state embedding"]:
        """The part of A that multiplies x_t, a view."""
        return self.A[:, self.state_dim :]

    def forward(
        self,
        inputs: Float[Tensor, "batch time embedding"] | Int[Tensor, "batch time"],
        mask: Bool[Tensor, "batch time"] | None = None,
        initial_state: Float[Tensor, "batch state"] | None = None,
        *,
        embedding: Float[Tensor, "vocabulary embedding"] | None = None,
        only_last: bool = False,
    ) -> Float[Tensor, "batch steps state"]:
        """All states h_1 .. h_T.

        Args:
            inputs: x_1 .. x_T, (B, T, E); with an ``embedding`` (V, E) the words (B, T) that have them there.
            mask: True at real steps, (B, T); the others carry the previous state on.
            initial_state: h_0, (B, H); default zeros.
            only_last: h_T alone, without a gradient for each of the other states.

        Returns:
            (B, T, H), or (B, 1, H).
        """
        # a recurrent part that is held at zero is a copy, which leaves the other part alone its gradient
        A = self.A if self.recurrent else torch.cat([self.recurrent_weight, self.input_weight], dim=1)
        options = {"padding_index": PAD_INDEX, "linear": self.linear, "only_last": only_last}
        return scan_inputs(inputs, A, self.b, initial_state, mask, self.scan, embedding=embedding, **options)

    def extra_repr(self) -> str:
        return f"A={self.state_dim}x({self.state_dim}+{self.embedding_dim}), bias={self.b is not None}"


class LinearCell(TanhCell):
    """The linear recurrence,

        h_t = A [h_{t-1}; x_t] + b

    a weighted sum of all words so far, whose weights grow or vanish as powers of A's recurrent part.
    """

    linear = True


# a new cell is a class above and a line here
ACTIVATIONS = {"tanh": TanhCell, "identity": LinearCell}
