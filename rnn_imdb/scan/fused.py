"""The tanh recurrence through the C kernels, for float32 on a CPU: lookup, projection and scan in one function.

    x_t = table[token_t]        p_t = W_x x_t + b        h_t = tanh(p_t + W h_{t-1})

A word has the same p wherever it stands: each distinct word of a batch is projected once, and the scan reads p from
that small table. Rows that begin alike share their states until they differ: reviews padded in front all begin with
the same word, so the states over this padding are computed once, in a row that is added to the batch. Backward, the
gradients of the rows that share a state add up, and one chain carries their sum on.

States and all gradients are bitwise the same whatever the number of threads; states and the gradients of p and h_0
also whatever the rest of the batch.

Dimension key: B batch, T time, V vocabulary, E embedding, H state.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_imdb.scan import native


def _plain(x: Tensor, *, padded: bool = False) -> Tensor:
    """x, contiguous; padded with zeros after its last entries to whole vectors.

    A sign that torch keeps beside the numbers, as of the imaginary part of a conjugate, goes into them.
    """
    missing = -x.shape[-1] % native.LANES if padded else 0
    x = x.resolve_neg()
    return F.pad(x, (0, missing)) if missing else x.contiguous()


def _wanted(ctx: Any, *gradients: Tensor) -> list[Tensor | None]:
    """Each of the gradients of the first inputs, or None where nobody asked for it."""
    return [each if wanted else None for each, wanted in zip(gradients, ctx.needs_input_grad, strict=False)]


class _Recurrence(torch.autograd.Function):
    """The scan of W over p = W_x x + b, where A = [W W_x], or over the inputs themselves, where A = W. Backward,

        dp_w = sum of delta_n        dx = dp W_x,   dW_x = dp^T x,   db = sum of dp_w

    with n over the steps that read x_w; delta, dW and dh_0 are derived in scan.h.

    The inputs are vectors, one for each step, or with `tokens` an embedding, of which these are read.
    """

    @staticmethod
    def forward(ctx, inputs, A, bias, initial_state, tokens, mask, padding_index, only_last):
        (B, T), H = (inputs if tokens is None else tokens).shape[:2], len(A)
        E = A.shape[1] - H
        x, A = _plain(inputs, padded=E == 0), _plain(A)
        bias = None if bias is None else _plain(bias, padded=True)
        V, W = inputs.shape[:-1].numel(), native.wide(H)
        # with words one row more, in which the states over leading padding are computed for all
        R = B if tokens is None else B + 1
        found = None if tokens is None else tokens.new_empty(native.found(B, R, T, V))
        initial_state = x.new_zeros(R, W) if initial_state is None else _plain(initial_state, padded=True)
        mask = None if mask is None else mask.contiguous()
        states = x.new_empty(R, T, W)
        sizes = B, R, T, E, H, only_last, padding_index, V
        native.call("recurrence_forward", sizes, x, tokens, A, bias, initial_state, mask, found, states)
        ctx.save_for_backward(x, tokens, A, initial_state, mask, found, states)
        ctx.sizes = B, R, T, E, H
        states = states[:B, :, :H]
        return states[:, -1:].clone() if only_last else states

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, _, A, initial_state, *_, states = ctx.saved_tensors
        *_, E, H = ctx.sizes
        delta, d_initial = torch.empty_like(states), torch.empty_like(initial_state)
        d_inputs, d_A, d_bias, wanted = _wanted(
            ctx, x.new_empty(x.shape if E else 0), torch.empty_like(A), x.new_empty(states.shape[2]), d_initial
        )
        sizes = *ctx.sizes, gradient.shape[1], x.shape[:-1].numel()
        arrays = _plain(gradient, padded=True), *ctx.saved_tensors, delta, d_inputs, d_A, d_bias, d_initial
        native.call("recurrence_backward", sizes, *arrays)
        if d_inputs is not None and not E:
            d_inputs = delta[..., :H]
        found = d_inputs, d_A, *(None if each is None else each[..., :H] for each in (d_bias, wanted))
        return *found, None, None, None, None


def scan(
    inputs: Float[Tensor, "*rows columns"],
    A: Float[Tensor, "state state_and_embedding"],
    initial_state: Float[Tensor, "batch state"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    bias: Float[Tensor, " state"] | None = None,
    tokens: Int[Tensor, "batch time"] | None = None,
    *,
    padding_index: int = 0,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """h_t = tanh(p_t + W h_{t-1}) where the mask is true, h_{t-1} elsewhere; h_T alone, (B, 1, H), with `only_last`.

    p_t = W_x x_t + b where A is W beside W_x, with x_t from the inputs (B, T, E), or with `tokens` from their rows
    (V, E); where A is W, p_t are the inputs (B, T, H). h_0 = 0 without an initial state; with `tokens` it must be.
    Any B, T, H, E ≥ 1, fast where H is a multiple of 16; nothing is computed for masked steps. Matrices may be strided.
    Differentiable once, in all but the mask. Shapes, dtypes and devices are the caller's to check.

    Raises:
        IndexError: a token is no row of the inputs.
    """
    tokens = None if tokens is None else tokens.long().contiguous()
    return _Recurrence.apply(inputs, A, bias, initial_state, tokens, mask, padding_index, only_last)


class _Linear(torch.autograd.Function):
    """p = W_x x + b;   dx = dp W_x,   dW_x = dp^T x,   db = sum of dp."""

    @staticmethod
    def forward(ctx, x, matrix, bias):
        ctx.shape = x.shape
        x, matrix = _plain(x.reshape(-1, x.shape[-1])), _plain(matrix)
        p = x.new_empty(len(x), native.wide(len(matrix)))
        bias = None if bias is None else _plain(bias, padded=True)
        native.call("linear", (*x.shape, len(matrix)), x, matrix, bias, p)
        ctx.save_for_backward(x, matrix)
        return p[:, : len(matrix)].reshape(*ctx.shape[:-1], len(matrix))

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dp):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, matrix = ctx.saved_tensors
        (N, E), H = x.shape, len(matrix)
        x, dp = _plain(x, padded=True), _plain(dp, padded=True)
        found = _wanted(ctx, torch.empty_like(x), torch.empty_like(matrix), x.new_empty(dp.shape[-1]))
        native.call("linear_backward", (N, E, H, E), x, matrix, dp, *found)
        d_x, d_matrix, d_bias = found
        d_x = None if d_x is None else d_x[:, :E].reshape(ctx.shape)
        return d_x, d_matrix, None if d_bias is None else d_bias[:H]


def project_inputs(
    x: Float[Tensor, "*rows embedding"],
    input_weight: Float[Tensor, "state embedding"],
    bias: Float[Tensor, " state"] | None = None,
) -> Float[Tensor, "*rows state"]:
    """p = W_x x + b: F.linear, in values and gradients, to rounding. `input_weight` may be strided."""
    if not native.supports(x):
        return F.linear(x, input_weight, bias)
    return _Linear.apply(x, input_weight, bias)


class _Dot(torch.autograd.Function):
    """y_n = w · x_n + b;   dx_n = dy_n w,   dw = sum of dy_n x_n,   db = sum of dy_n."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        x, weight = _plain(x), _plain(weight)
        ctx.save_for_backward(x, weight)
        y = x.new_empty(len(x))
        native.call("dot", tuple(x.shape), x, weight, bias, y)
        return y

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        d_weight, d_bias = torch.empty_like(weight), x.new_empty(1)
        d_x, _, wanted = _wanted(ctx, torch.empty_like(x), d_weight, d_bias)
        native.call("dot_backward", tuple(x.shape), x, weight, _plain(dy), d_x, d_weight, d_bias)
        return d_x, d_weight, wanted


def dot(
    x: Float[Tensor, "*rows features"],
    weight: Float[Tensor, " features"],
    bias: Float[Tensor, " one"] | None = None,
) -> Float[Tensor, "*rows"]:
    """w · x + b for each row, in values and gradients to rounding; on a CPU in one order, which MKL's is not."""
    if not native.supports(x):
        return F.linear(x, weight[None], bias).squeeze(-1)
    return _Dot.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(x.shape[:-1])


class _Lookup(torch.autograd.Function):
    """y_n = table[token_n];   the gradient of a row of the table is the sum of its dy_n, in their order."""

    @staticmethod
    def forward(ctx, table, tokens):
        ctx.save_for_backward(tokens)
        ctx.rows = len(table)
        return table.index_select(0, tokens)

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        table = dy.new_zeros(ctx.rows, dy.shape[1])
        native.call("scatter_add", (*dy.shape, ctx.rows), *ctx.saved_tensors, None, _plain(dy), table)
        return table, None


def lookup(table: Float[Tensor, "rows embedding"], tokens: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape embedding"]:
    """table[token], in values and gradients equal to F.embedding, to rounding. IndexError outside the table."""
    if not native.supports(table):
        return F.embedding(tokens, table)
    if tokens.dtype == torch.int32:
        tokens = tokens.long()
    # flat, an expanded one still has strides of its own
    return _Lookup.apply(table, tokens.reshape(-1).contiguous()).view(*tokens.shape, table.shape[1])
