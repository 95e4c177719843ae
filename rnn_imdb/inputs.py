"""What enters the recurrence: vectors of words, and their part of a step, p = W_x x + b.

On a CPU in float32 the product and its gradients run in scan/cpu_linear.c, which beats torch's GEMM two to three times
at these narrow shapes; everywhere else they are plain torch.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_imdb.scan import cpu


def linear(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """y = x M^T + b in C:   x (N, E), contiguous; M (H, E), b (H,), y (N, H); E and H padded as by ``cpu.pad``."""
    (N, E), H = x.shape, len(matrix)
    y = x.new_empty(N, H)
    cpu.call("linear", (N, E, H), x, matrix, bias, y)
    return y


def linear_backward(x: Tensor, matrix: Tensor, dy: Tensor, dx: Tensor | None) -> Tensor:
    """dM = dy^T x, and where `dx` is given, dx = dy M into it; it may be `dy` where E = H."""
    (N, E), H = x.shape, len(matrix)
    d_matrix = x.new_empty(H, E)
    cpu.call("linear_backward", (N, E, H), x, matrix, dy, dx, d_matrix)
    return d_matrix


class _Linear(torch.autograd.Function):
    """``linear``, with db = sum of dy."""

    @staticmethod
    def forward(ctx, x, matrix, bias):
        x = x.contiguous()
        ctx.save_for_backward(x, matrix)
        return linear(x, matrix, bias)

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, matrix = ctx.saved_tensors
        wants_dx, _, wants_db = ctx.needs_input_grad
        dx = torch.empty_like(x) if wants_dx else None
        return dx, linear_backward(x, matrix, dy.resolve_neg().contiguous(), dx), dy.sum(0) if wants_db else None


def project_inputs(
    x: Float[Tensor, "*rows embedding"],
    input_weight: Float[Tensor, "state embedding"],
    bias: Float[Tensor, " state"] | None = None,
) -> Float[Tensor, "*rows state"]:
    """p = W_x x + b: F.linear, in values and gradients, to rounding. `input_weight` may be strided."""
    H, E = input_weight.shape
    if not cpu.serves(x):
        return F.linear(x, input_weight, bias)
    padded_bias = None if bias is None else cpu.pad(bias.contiguous(), -1)
    y = _Linear.apply(cpu.pad(x.reshape(-1, E), -1), cpu.pad(input_weight, -1, -2), padded_bias)
    return y[:, :H].reshape(*x.shape[:-1], H)


def add_up(rows: Tensor, numbers: Tensor, shape: tuple[int, int]) -> Tensor:
    """A table of that shape, each row n the sum of the `rows` whose number is n, in their order."""
    table = rows.new_zeros(shape)
    cpu.call("add_rows", (*rows.shape, len(table)), numbers, None, rows.resolve_neg().contiguous(), table)
    return table


class _Lookup(torch.autograd.Function):
    """y_n = table[token_n];   the gradient of a row of the table is the sum of its dy_n, in their order."""

    @staticmethod
    def forward(ctx, table, tokens):
        ctx.save_for_backward(tokens)
        ctx.table_shape = table.shape
        return table.index_select(0, tokens)

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        (tokens,) = ctx.saved_tensors
        return add_up(dy, tokens, ctx.table_shape), None


def lookup(table: Float[Tensor, "rows embedding"], tokens: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape embedding"]:
    """table[token], in values and gradients equal to F.embedding, to rounding. IndexError outside the table."""
    if not cpu.serves(table):
        return F.embedding(tokens, table)
    if tokens.dtype == torch.int32:
        tokens = tokens.long()
    # flat, an expanded one still has strides of its own
    return _Lookup.apply(table, tokens.reshape(-1).contiguous()).view(*tokens.shape, table.shape[1])
