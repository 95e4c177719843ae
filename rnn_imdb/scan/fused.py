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


def _linear(x: Tensor, matrix: Tensor, bias: Tensor | None = None, *, in_place: bool = False) -> Tensor:
    """y = x M^T + b; where `in_place`, in the memory of x if it is as large."""
    y = x if in_place and x.shape[1] == len(matrix) else x.new_empty(len(x), len(matrix))
    native.call("linear", (*x.shape, len(matrix)), x, matrix, bias, y)
    return y


def _weight_gradient(left: Tensor, right: Tensor, initial: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """The sum of left_n right_n^T over all steps n, (R, T), of a scan of right_{n-1}, h_0 being `initial`."""
    R, T, _ = left.shape
    gradient = left.new_empty(left.shape[-1], right.shape[-1])
    native.call("weight_gradient", (R, T, *gradient.shape), left, right, initial, mask, gradient)
    return gradient


class _Recurrence(torch.autograd.Function):
    """p = W_x x + b and its scan; without W_x the inputs are p, without W the result is p. Backward,

        dp_w = sum of delta_n        dx = dp W_x,   dW_x = dp^T x,   db = sum of dp_w

    with n over the steps that read x_w; delta, dW and dh_0 are derived in scan.c.

    The inputs are vectors, one for each step, or with `words` an embedding, of which these are read; `positions`
    (R, T) then says which of the words at which step. `shared` says that the last of the R rows is no row of the
    batch, but that of the states over leading padding.
    """

    @staticmethod
    def forward(ctx, inputs, input_weight, bias, weight, initial_state, words, positions, mask, shared, only_last):
        E = inputs.shape[-1]
        H = E if input_weight is None else len(input_weight)
        x = inputs.reshape(-1, E) if words is None else inputs.index_select(0, words)
        projected = x = _pad(x, -1).contiguous()
        if input_weight is not None:
            input_weight = _pad(input_weight, -1, -2)
            projected = _linear(x, input_weight, None if bias is None else _pad(bias.contiguous(), -1))
        states = None
        if weight is not None:
            weight, initial_state = _pad(weight, -1, -2), _pad(initial_state, -1).contiguous()
            mask = None if mask is None else mask.contiguous()
            R, W = initial_state.shape
            T = (inputs if positions is None else positions).shape[1]
            # where no other step and no caller reads p, the states take its place
            own = positions is None and input_weight is not None
            states = projected.view(R, T, W) if own else x.new_empty(R, T, W)
            sizes = R, T, W, H, len(projected), shared, only_last
            native.call("tanh_scan_forward", sizes, projected, positions, weight, initial_state, mask, states)
        ctx.save_for_backward(
            None if input_weight is None else x, input_weight, weight, initial_state, words, positions, mask, states
        )
        ctx.inputs_shape, ctx.H, ctx.rows, ctx.shared = inputs.shape, H, len(x), shared
        if states is None:
            return projected[:, :H].reshape(*inputs.shape[:-1], H)
        states = states[: len(states) - shared, :, :H]
        return states[:, -1:].clone() if only_last else states

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, input_weight, weight, initial_state, words, positions, mask, states = ctx.saved_tensors
        wants_inputs, wants_input_weight, wants_bias, wants_weight, *_ = ctx.needs_input_grad
        E, H = ctx.inputs_shape[-1], ctx.H
        d_inputs = d_input_weight = d_weight = d_initial = None
        gradient = _pad(gradient, -1).contiguous()
        W = gradient.shape[-1]
        if weight is None:
            d_projected = gradient.view(-1, W)
        else:
            R, T, _ = states.shape
            delta, d_initial = torch.empty_like(states), torch.empty_like(initial_state)
            sizes = R, T, W, H, gradient.shape[1], ctx.shared
            native.call("tanh_scan_backward", sizes, gradient, weight, states, mask, delta, d_initial)
            d_initial = d_initial[:, :H]
            if wants_weight:
                d_weight = _weight_gradient(delta, states, initial_state, mask)[:H, :H]
            d_projected = delta.view(-1, W)
            if positions is not None:
                d_projected = _scatter_add(d_projected, positions, (ctx.rows, W), mask)
            if W > H:
                # infinite inputs made NaN of the padding, and a product with zeros would spread it
                d_projected[:, H:] = 0
        d_bias = d_projected.sum(0)[:H] if wants_bias else None
        if wants_input_weight:
            d_input_weight = _weight_gradient(d_projected[None], x[None])[:H, :E]
        if wants_inputs:
            d_x = d_projected
            if input_weight is not None:
                # without a scan, d_projected may be the caller's
                d_x = _linear(d_x, input_weight.T, in_place=weight is not None)
            d_x = d_x[:, :E]
            d_inputs = d_x.reshape(ctx.inputs_shape) if words is None else _scatter_add(d_x, words, ctx.inputs_shape)
        return d_inputs, d_input_weight, d_bias, d_weight, d_initial, None, None, None, None, None


def scan(
    inputs: Float[Tensor, "batch time embedding"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    input_weight: Float[Tensor, "state embedding"] | None = None,
    bias: Float[Tensor, " state"] | None = None,
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """h_t = tanh(p_t + W h_{t-1}) where the mask is true, h_{t-1} elsewhere; h_T alone, (B, 1, H), with `only_last`.

    p_t = W_x x_t + b, or the inputs themselves without an `input_weight`. Any B, T, H, E ≥ 1, fast where H and E are
    multiples of 16; nothing is computed for masked steps. Matrices may be strided. Differentiable once, in all but the
    mask. Shapes, dtypes and devices are the caller's to check.
    """
    return _Recurrence.apply(inputs, input_weight, bias, weight, initial_state, None, None, mask, False, only_last)


def scan_tokens(
    tokens: Int[Tensor, "batch time"],
    embedding: Float[Tensor, "vocabulary embedding"],
    weight: Float[Tensor, "state state"],
    input_weight: Float[Tensor, "state embedding"],
    bias: Float[Tensor, " state"] | None,
    mask: Bool[Tensor, "batch time"] | None,
    padding_index: int,
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``scan`` of x_t = embedding[token_t] from h_0 = 0. IndexError where a token is outside the vocabulary."""
    (B, T), V = tokens.shape, len(embedding)
    tokens = tokens.long().contiguous()
    count, positions = tokens.new_empty(1), tokens.new_empty(B + 1, T)
    words = tokens.new_empty(min(B * T, V))
    native.call("unique_tokens", (B, T, V), tokens, positions, words, count)
    shared = False
    if mask is None:
        own_steps, longest = tokens.new_empty(B + 1, T, dtype=torch.bool), tokens.new_empty(1)
        native.call("find_leading_padding", (B, T, padding_index), tokens, positions, own_steps, longest)
        shared = longest.item() > 0
        mask = own_steps if shared else None
    initial_state = embedding.new_zeros(B + shared, len(weight))
    words, positions = words[: int(count.item())], positions[: B + shared]
    return _Recurrence.apply(
        embedding, input_weight, bias, weight, initial_state, words, positions, mask, shared, only_last
    )


def project_inputs(
    x: Float[Tensor, "*rows embedding"],
    input_weight: Float[Tensor, "state embedding"],
    bias: Float[Tensor, " state"] | None = None,
) -> Float[Tensor, "*rows state"]:
    """p = W_x x + b: F.linear, in values and gradients, to rounding. `input_weight` may be strided."""
    if not native.supports(x):
        return F.linear(x, input_weight, bias)
    return _Recurrence.apply(x, input_weight, bias, None, None, None, None, None, False, False)


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
