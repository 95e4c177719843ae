"""The whole tanh recurrence, h_t = tanh(A [h_{t-1}; x_t] + b): projection and scan in one function.

``scan_vectors`` reads vectors x_1 .. x_T, ``scan_tokens`` words. What the C kernel can spare for words, it spares. A
word has the same p = W_x x + b wherever it stands, so each distinct word of a batch is projected once, and the scan
reads p from that small table. And rows that begin alike share their states until they differ: reviews padded in front
all begin with the same word, so the states over this padding are computed once, in a row that is added to the batch.
Backwards, the gradients of the rows that share a state add up, and one chain carries their sum on.

Dimension key: B batch, T time, V vocabulary, U distinct words, E embedding, H state. A = [W W_x].
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_imdb.data.text import PAD_INDEX
from rnn_imdb.scan import find_backend, native, tanh_scan


def linear(x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """y = x M^T + b in C:   x (N, E), contiguous; M (H, E), b (H,), y (N, H); E and H padded as by ``native.pad``."""
    (N, E), H = x.shape, len(matrix)
    y = x.new_empty(N, H)
    native.call("linear", (N, E, H), x, matrix, bias, y)
    return y


def linear_backward(x: Tensor, matrix: Tensor, dy: Tensor, dx: Tensor | None) -> Tensor:
    """dM = dy^T x, and where `dx` is given, dx = dy M into it; it may be `dy` where E = H."""
    (N, E), H = x.shape, len(matrix)
    d_matrix = x.new_empty(H, E)
    native.call("linear_backward", (N, E, H), x, matrix, dy, dx, d_matrix)
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
    if not native.serves(x):
        return F.linear(x, input_weight, bias)
    padded_bias = None if bias is None else native.pad(bias.contiguous(), -1)
    y = _Linear.apply(native.pad(x.reshape(-1, E), -1), native.pad(input_weight, -1, -2), padded_bias)
    return y[:, :H].reshape(*x.shape[:-1], H)


def add_up(rows: Tensor, numbers: Tensor, shape: tuple[int, int]) -> Tensor:
    """A table of that shape, each row n the sum of the `rows` whose number is n, in their order."""
    table = rows.new_zeros(shape)
    native.call("add_rows", (*rows.shape, len(table)), numbers, None, rows.resolve_neg().contiguous(), table)
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
    if not native.serves(table):
        return F.embedding(tokens, table)
    if tokens.dtype == torch.int32:
        tokens = tokens.long()
    # flat, an expanded one still has strides of its own
    return _Lookup.apply(table, tokens.reshape(-1).contiguous()).view(*tokens.shape, table.shape[1])


def scan_vectors(
    inputs: Float[Tensor, "batch time embedding"],
    A: Float[Tensor, "state state_and_embedding"],
    bias: Float[Tensor, " state"] | None = None,
    initial_state: Float[Tensor, "batch state"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``tanh_scan`` of p_t = W_x x_t + b.

    Args:
        inputs: x_1 .. x_T, (B, T, E).
        A: recurrent weights W beside input weights W_x, (H, H + E).
        bias: b, (H,), or None.
        initial_state: h_0, (B, H); None stands for zeros.
        mask, backend, only_last: as for ``tanh_scan``.

    Raises:
        ValueError: a shape, dtype or device does not fit the others.
        NotServed: the backend does not serve this case.
    """
    if inputs.ndim != 3 or 0 in inputs.shape:
        raise ValueError(f"inputs must have a shape (B, T, E) without zeros, got {tuple(inputs.shape)}")
    (B, T, E), H = inputs.shape, len(A)
    _check(
        inputs=(inputs, inputs.dtype, (B, T, E)),
        A=(A, inputs.dtype, (H, H + E)),
        bias=(bias, inputs.dtype, (H,)),
        initial_state=(initial_state, inputs.dtype, (B, H)),
        mask=(mask, torch.bool, (B, T)),
    )
    if initial_state is None:
        initial_state = inputs.new_zeros(B, H)
    backend = find_backend(backend, inputs.device, inputs.dtype, H, masked=mask is not None)
    if backend == "cpu":
        return _Recurrence.apply(inputs, A, bias, initial_state, None, None, mask, False, only_last)
    # of one split, since the gradients of two slices would be padded and added up
    weight, input_weight = A.split([H, E], dim=1)
    # under autocast the product may come in a shorter dtype than the recurrence runs in
    projected = project_inputs(inputs, input_weight, bias).to(A.dtype)
    return tanh_scan(projected, weight, initial_state, mask, backend, only_last=only_last)


def scan_tokens(
    tokens: Int[Tensor, "batch time"],
    embedding: Float[Tensor, "vocabulary embedding"],
    A: Float[Tensor, "state state_and_embedding"],
    bias: Float[Tensor, " state"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``scan_vectors`` of x_t = embedding[token_t] from h_0 = 0: its values, and its gradients to rounding.

    Args:
        tokens: words, (B, T); one that many rows begin with should be ``rnn_imdb.data.text.PAD_INDEX``.
        embedding: a vector x for each word, (V, E).
        A, bias, mask, backend, only_last: as for :func:`scan_vectors`.

    Raises:
        IndexError: a token is outside the vocabulary.
        ValueError: a shape, dtype or device does not fit the others.
        NotServed: the backend does not serve this case.
    """
    if tokens.ndim != 2 or 0 in tokens.shape or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"tokens must be integers of a shape (B, T) without zeros, got {tokens.dtype} {tuple(tokens.shape)}"
        )
    (B, T), E, H = tokens.shape, embedding.shape[-1], len(A)
    _check(
        embedding=(embedding, embedding.dtype, (len(embedding), E)),
        tokens=(tokens, tokens.dtype, (B, T)),
        A=(A, embedding.dtype, (H, H + E)),
        bias=(bias, embedding.dtype, (H,)),
        mask=(mask, torch.bool, (B, T)),
    )
    backend = find_backend(backend, embedding.device, embedding.dtype, H, masked=mask is not None)
    tokens = tokens.long().contiguous()
    if backend != "cpu":
        return scan_vectors(lookup(embedding, tokens), A, bias, None, mask, backend, only_last=only_last)
    words, positions = _distinct(tokens, len(embedding))
    shared = False
    if mask is None:
        # the states over padding have a row of their own
        begun, longest = tokens.new_empty(B + 1, T, dtype=torch.bool), tokens.new_empty(1)
        native.call("begun", (B, T, PAD_INDEX), tokens, positions, begun, longest)
        shared = longest.item() > 0
        mask = begun if shared else None
    initial_state = embedding.new_zeros(B + shared, H)
    positions = positions[: B + shared]
    return _Recurrence.apply(embedding, A, bias, initial_state, words, positions, mask, shared, only_last)


def _check(**arguments: tuple[Tensor | None, torch.dtype, tuple[int, ...]]) -> None:
    """Raise ValueError unless each tensor is of the dtype and shape beside it, not empty, on the first one's device."""
    device = next(tensor.device for tensor, _, _ in arguments.values() if tensor is not None)
    for name, (tensor, dtype, shape) in arguments.items():
        if tensor is None:
            continue
        if (tensor.dtype, tuple(tensor.shape), tensor.device) != (dtype, shape, device) or 0 in shape:
            raise ValueError(
                f"{name} must be {dtype} of shape {shape}, without zeros, on {device} beside the other arguments, got "
                f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
            )


def _distinct(tokens: Tensor, vocabulary_size: int) -> tuple[Tensor, Tensor]:
    """The distinct ones of `tokens` (B, T), in any order, and the position of each token among them, in (B + 1, T)."""
    B, T = tokens.shape
    count, positions = tokens.new_empty(1), tokens.new_empty(B + 1, T)
    words = tokens.new_empty(min(B * T, vocabulary_size))
    native.call("distinct", (B, T, vocabulary_size), tokens, positions, words, count)
    return words[: int(count.item())], positions


class _Recurrence(torch.autograd.Function):
    """With p_w = W_x x_w + b, and n over the steps that read x_w,

        dp_w = sum of delta_n;   dx = dp W_x,   dW_x = dp^T x,   db = sum of dp_w

    and delta and dW as in the scan alone. Either `inputs` are vectors, one for each step, or an embedding, of which
    `words` are read, and `positions` says which of these at which step.
    """

    @staticmethod
    def forward(ctx, inputs, A, bias, initial_state, words, positions, mask, shared, only_last):
        (rows, H), E = initial_state.shape, inputs.shape[-1]
        x = inputs.reshape(-1, E) if words is None else inputs.index_select(0, words)
        x, initial_state = native.pad(x, -1).contiguous(), native.pad(initial_state, -1).contiguous()
        weight, input_weight = native.pad(A[:, :H], -1, -2), native.pad(A[:, H:], -1, -2)
        projected = linear(x, input_weight, None if bias is None else native.pad(bias.contiguous(), -1))
        if positions is None:
            # a state takes the place of its p, which no other step reads
            states = projected.view(rows, -1, len(weight))
        else:
            states = x.new_empty(rows, positions.shape[1], len(weight))
        _, T, width = states.shape
        B = rows - shared
        mask = None if mask is None else mask.contiguous()
        sizes = rows, T, width, H, len(projected), shared, only_last
        native.call("tanh_scan_forward", sizes, projected, positions, weight, initial_state, mask, states)
        ctx.save_for_backward(x, weight, input_weight, initial_state, words, positions, mask, states)
        ctx.shared, ctx.sizes, ctx.inputs_shape = shared, (H, E), inputs.shape
        return states[:B, -1:, :H].clone() if only_last else states[:B, :, :H]

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, input_weight, initial_state, words, positions, mask, states = ctx.saved_tensors
        (rows, T, width), (H, E) = states.shape, ctx.sizes
        wants_inputs, _, wants_bias, *_ = ctx.needs_input_grad
        sizes = rows, T, width, H, gradient.shape[1], ctx.shared
        gradient = native.pad(gradient, -1).contiguous()
        delta, d_initial = torch.empty_like(states), torch.empty_like(initial_state)
        native.call("tanh_scan_backward", sizes, gradient, weight, states, mask, delta, d_initial)
        d_weight = x.new_empty(width, width)
        native.call("outer", (rows, T, width), delta, states, initial_state, mask, d_weight)
        if positions is None:
            d_projected = delta.view(-1, width)
        else:
            d_projected = x.new_zeros(len(x), width)
            native.call("add_rows", (rows * T, *d_projected.shape[::-1]), positions, mask, delta, d_projected)
        if width > H:
            # infinite inputs made NaN of the padding, and a product with zeros would spread it
            d_projected[:, H:] = 0
        d_bias = d_projected.sum(0)[:H] if wants_bias else None
        d_x = (d_projected if x.shape == d_projected.shape else torch.empty_like(x)) if wants_inputs else None
        d_input_weight = linear_backward(x, input_weight, d_projected, d_x)
        d_A = torch.cat([d_weight[:H, :H], d_input_weight[:H, :E]], dim=1)
        d_inputs = None
        if d_x is not None:
            d_x = d_x[:, :E]
            d_inputs = d_x.reshape(ctx.inputs_shape) if words is None else add_up(d_x, words, ctx.inputs_shape)
        return d_inputs, d_A, d_bias, d_initial[:, :H], None, None, None, None, None
