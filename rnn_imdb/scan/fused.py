"""The tanh recurrence through the C kernels, for float32 on a CPU: lookup, projection and scan in one function.

    x_t = table[token_t]        p_t = W_x x_t + b        h_t = tanh(p_t + W h_{t-1})

A word has the same p wherever it stands: each distinct word of a batch is projected once, and the scan reads p from
that small table. Rows that begin alike share their states until they differ: reviews padded in front all begin with
the same word, so the states over this padding are computed once, in a row that is added to the batch. Backward, the
gradients of the rows that share a state add up, and one chain carries their sum on.

States and all gradients are bitwise the same whatever the number of threads; states and the gradients of p and h_0
also whatever the rest of the batch.

Dimension key: B batch, T time, V vocabulary, U distinct words, E embedding, H state, W the width that H is padded to.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_imdb.scan import native


def _pad(x: Tensor, *dims: int) -> Tensor:
    """x with zeros after its last entries, so that each of the trailing `dims` is a multiple of the vector width.

    A sign that torch keeps beside the numbers, as of the imaginary part of a conjugate, goes into them.
    """
    x = x.resolve_neg()
    missing = [-x.shape[dim] % native.LANES for dim in dims]
    return F.pad(x, [n for m in missing for n in (0, m)]) if any(missing) else x


def _scatter_add(rows: Tensor, numbers: Tensor, shape: tuple[int, int], mask: Tensor | None = None) -> Tensor:
    """A table of that shape, each row n the sum of the `rows` whose number is n, in their order."""
    table = rows.new_zeros(shape)
    native.call("scatter_add", (*rows.shape, len(table)), numbers, mask, rows.resolve_neg().contiguous(), table)
    return table


class _Recurrence(torch.autograd.Function):
    """The scan of W over p = W_x x + b, where A = [W W_x], or over the inputs themselves, where A = W. Backward,

        dp_w = sum of delta_n        dx = dp W_x,   dW_x = dp^T x,   db = sum of dp_w

    with n over the steps that read x_w; delta, dW and dh_0 are derived in scan.c.

    The inputs are vectors, one for each step, or with `tokens` an embedding, of which these are read.
    """

    @staticmethod
    def forward(ctx, inputs, A, bias, initial_state, tokens, mask, padding_index, only_last):
        (B, T), H = (inputs if tokens is None else tokens).shape[:2], len(A)
        ctx.inputs_shape, ctx.H = inputs.shape, H
        x, weight = _pad(inputs, -1).contiguous(), _pad(A[:, :H], -1, -2)
        input_weight = _pad(A[:, H:], -1, -2) if A.shape[1] > H else None
        bias = None if bias is None else _pad(bias.contiguous(), -1)
        E, W = x.shape[-1], len(weight)
        V = x.numel() // E
        R, found = B, (None, None, None, None)
        if tokens is not None:
            # one more, in which the states over leading padding are computed for all
            R += 1
            numbers = tokens.new_empty(R * T + min(B * T, V) + 2)
            positions, words, counts = numbers.split([R * T, min(B * T, V), 2])
            found = words, positions, tokens.new_empty(R * T, dtype=torch.bool), counts
        initial_state = x.new_zeros(R, W) if initial_state is None else _pad(initial_state, -1).contiguous()
        mask = None if mask is None else mask.contiguous()
        states = x.new_empty(R, T, W)
        sizes = B, R, T, E, W, H, only_last, padding_index, V
        arrays = x, tokens, input_weight, bias, weight, initial_state, mask, *found, states
        native.call("recurrence_forward", sizes, *arrays)
        ctx.save_for_backward(x, tokens, input_weight, weight, initial_state, mask, *found, states)
        states = states[:B, :, :H]
        return states[:, -1:].clone() if only_last else states

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, tokens, input_weight, _, initial_state, *_, states = ctx.saved_tensors
        wants_inputs, wants_A, wants_bias, wants_initial, *_ = ctx.needs_input_grad
        (R, T, W), E, H = states.shape, x.shape[-1], ctx.H
        gradient = _pad(gradient, -1).contiguous()
        delta, d_initial = torch.empty_like(states), torch.empty_like(initial_state)
        d_inputs = d_weight = d_input_weight = d_A = None
        if wants_inputs:
            d_inputs = delta if tokens is None and E == W else torch.empty_like(x)
        if wants_A:
            d_weight, d_input_weight = x.new_empty(W, W), None if input_weight is None else x.new_empty(W, E)
        d_bias = x.new_empty(W) if wants_bias else None
        sizes = len(gradient), R, T, E, W, H, gradient.shape[1], x.numel() // E
        results = delta, d_inputs, d_input_weight, d_bias, d_weight, d_initial
        native.call("recurrence_backward", sizes, gradient, *ctx.saved_tensors, *results)
        E = ctx.inputs_shape[-1]
        if d_weight is not None:
            d_A = d_weight[:H, :H]
            d_A = d_A if d_input_weight is None else torch.cat([d_A, d_input_weight[:H, :E]], dim=1)
        d_inputs = None if d_inputs is None else d_inputs.view_as(x)[..., :E]
        d_bias = None if d_bias is None else d_bias[:H]
        return d_inputs, d_A, d_bias, d_initial[:, :H] if wants_initial else None, None, None, None, None


def scan(
    inputs: Float[Tensor, "batch time embedding"],
    A: Float[Tensor, "state columns"],
    initial_state: Float[Tensor, "batch state"] | None,
    mask: Bool[Tensor, "batch time"] | None = None,
    bias: Float[Tensor, " state"] | None = None,
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """h_t = tanh(p_t + W h_{t-1}) where the mask is true, h_{t-1} elsewhere; h_T alone, (B, 1, H), with `only_last`.

    p_t = W_x x_t + b where A is W beside W_x, the inputs themselves where it is W; h_0 = 0 without an initial state.
    Any B, T, H, E ≥ 1, fast where H and E are multiples of 16; nothing is computed for masked steps. Matrices may be
    strided. Differentiable once, in all but the mask. Shapes, dtypes and devices are the caller's to check.
    """
    return _Recurrence.apply(inputs, A, bias, initial_state, None, mask, 0, only_last)


def scan_tokens(
    tokens: Int[Tensor, "batch time"],
    embedding: Float[Tensor, "vocabulary embedding"],
    A: Float[Tensor, "state state_and_embedding"],
    bias: Float[Tensor, " state"] | None,
    mask: Bool[Tensor, "batch time"] | None,
    padding_index: int,
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``scan`` of x_t = embedding[token_t] from h_0 = 0. IndexError where a token is outside the vocabulary."""
    tokens = tokens.long().contiguous()
    return _Recurrence.apply(embedding, A, bias, None, tokens, mask, padding_index, only_last)


class _Linear(torch.autograd.Function):
    """p = W_x x + b;   dx = dp W_x,   dW_x = dp^T x,   db = sum of dp."""

    @staticmethod
    def forward(ctx, x, matrix, bias):
        ctx.shape = x.shape
        rows = _pad(x.reshape(-1, x.shape[-1]), -1).contiguous()
        padded, bias = _pad(matrix, -1, -2), None if bias is None else _pad(bias.contiguous(), -1)
        p = rows.new_empty(len(rows), len(padded))
        native.call("linear", (*rows.shape, len(padded)), rows, padded, bias, p)
        ctx.save_for_backward(rows, padded)
        return p[:, : len(matrix)].reshape(*x.shape[:-1], len(matrix))

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dp):  # pyright: ignore[reportIncompatibleMethodOverride]
        rows, matrix = ctx.saved_tensors
        wants_x, wants_matrix, wants_bias = ctx.needs_input_grad
        d_x = torch.empty_like(rows) if wants_x else None
        d_matrix = rows.new_empty(matrix.shape) if wants_matrix else None
        d_bias = rows.new_empty(len(matrix)) if wants_bias else None
        dp_rows = _pad(dp, -1).contiguous()
        native.call("linear_backward", (*rows.shape, len(matrix)), rows, matrix, dp_rows, d_x, d_matrix, d_bias)
        E, H = ctx.shape[-1], dp.shape[-1]
        return (
            None if d_x is None else d_x[:, :E].reshape(ctx.shape),
            None if d_matrix is None else d_matrix[:H, :E],
            None if d_bias is None else d_bias[:H],
        )


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
        x, weight = x.resolve_neg().contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        y = x.new_empty(len(x))
        native.call("dot", tuple(x.shape), x, weight, bias, y)
        return y

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        d_weight, d_bias = torch.empty_like(weight), x.new_empty(1)
        native.call("dot_backward", tuple(x.shape), x, weight, dy.resolve_neg().contiguous(), d_x, d_weight, d_bias)
        return d_x, d_weight, d_bias if ctx.needs_input_grad[2] else None


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
        ctx.table_shape = table.shape
        return table.index_select(0, tokens)

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, dy):  # pyright: ignore[reportIncompatibleMethodOverride]
        (tokens,) = ctx.saved_tensors
        return _scatter_add(dy, tokens, ctx.table_shape), None


def lookup(table: Float[Tensor, "rows embedding"], tokens: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape embedding"]:
    """table[token], in values and gradients equal to F.embedding, to rounding. IndexError outside the table."""
    if not native.supports(table):
        return F.embedding(tokens, table)
    if tokens.dtype == torch.int32:
        tokens = tokens.long()
    # flat, an expanded one still has strides of its own
    return _Lookup.apply(table, tokens.reshape(-1).contiguous()).view(*tokens.shape, table.shape[1])
