"""What enters the recurrence: vectors of words, and their part of a step, p = W_x x + b.

On a CPU in float32 the product and its gradients run in scan/cpu_words.c, which beats torch's GEMM two to three times
at these narrow shapes; everywhere else they are plain torch.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_imdb.scan import cpu


class _Linear(torch.autograd.Function):
    """y = x M^T + b;   dx = dy M,   dM = dy^T x,   db = sum of dy.   x (N, E), M (H, E), y (N, H)."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        x = x.contiguous()
        (N, E), H = x.shape, weight.shape[0]
        y = x.new_empty(N, H)
        cpu.call("linear", N, E, H, x, weight, *weight.stride(), bias, y)
        ctx.save_for_backward(x, weight)
        return y

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        dy = dy.contiguous()
        (N, E), H = x.shape, weight.shape[0]
        dx = d_weight = d_bias = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            cpu.call("linear", N, H, E, dy, weight, *reversed(weight.stride()), None, dx)
        if ctx.needs_input_grad[1]:
            d_weight = x.new_empty(H, E)
            cpu.call("outer", 1, N, H, E, dy, x, None, None, d_weight)
        if ctx.needs_input_grad[2]:
            d_bias = dy.sum(0)
        return dx, d_weight, d_bias


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
        d_table = dy.new_zeros(ctx.table_shape)
        cpu.call("add_rows", *dy.shape, tokens, None, dy.contiguous(), d_table)
        return d_table, None


def lookup(
    table: Float[Tensor, "rows embedding"], tokens: Int64[Tensor, "*shape"]
) -> Float[Tensor, "*shape embedding"]:
    """table[token], in values and gradients equal to F.embedding, to rounding. IndexError outside the table."""
    if not cpu.serves(table):
        return F.embedding(tokens, table)
    return _Lookup.apply(table, tokens.reshape(-1)).view(*tokens.shape, -1)
