"""The tanh recurrence over words: embedding, projection and scan in one function.

What the C kernel can spare, it spares. A word has the same p = W_x x + b wherever it stands, so each distinct word of
a batch is projected once, and the scan reads p from that small table. And rows that begin alike share their states
until they differ: reviews padded in front all begin with the same word, so the states over this padding are computed
once, in a row that is added to the batch. Backwards, the gradients of the rows that share a state add up, and one
chain carries their sum on.

Dimension key: B batch, T time, V vocabulary, U distinct words, E embedding, H state.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_imdb.inputs import lookup, project_inputs
from rnn_imdb.scan import cpu, find_backend, tanh_scan
from rnn_imdb.text import PAD_INDEX


def scan_tokens(
    tokens: Int64[Tensor, "batch time"],
    embedding: Float[Tensor, "vocabulary embedding"],
    input_weight: Float[Tensor, "state embedding"],
    bias: Float[Tensor, " state"] | None,
    weight: Float[Tensor, "state state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``tanh_scan`` of p_t = W_x embedding[token_t] + b from h_0 = 0: its values, and its gradients to rounding.

    Args:
        tokens: words, (B, T); one that many rows begin with should be ``rnn_imdb.text.PAD_INDEX``.
        embedding: a vector x for each word, (V, E).
        input_weight: W_x, (H, E); may be strided, as ``weight``.
        bias: b, (H,), or None.
        weight, mask, backend, only_last: as for ``tanh_scan``.

    Raises:
        IndexError: a token is outside the vocabulary.
        ValueError: a shape, dtype or device does not fit the others.
        NotServed: the backend does not serve this case.
    """
    check_inputs(tokens, embedding, input_weight, bias, weight, mask)
    backend = find_backend(backend, embedding.device, embedding.dtype, len(weight), masked=mask is not None)
    if backend == "cpu":
        return _ScanTokens.apply(embedding, input_weight, bias, weight, tokens.long().contiguous(), mask, only_last)
    if tokens.numel() < len(embedding):
        projected = project_inputs(lookup(embedding, tokens), input_weight, bias)
    else:
        # the whole vocabulary is the smaller product
        projected = lookup(project_inputs(embedding, input_weight, bias), tokens)
    # under autocast the product may come in a shorter dtype than the recurrence runs in
    projected = projected.to(weight.dtype)
    initial_state = projected.new_zeros(len(projected), len(weight))
    return tanh_scan(projected, weight, initial_state, mask, backend, only_last=only_last)


def check_inputs(
    tokens: Tensor, embedding: Tensor, input_weight: Tensor, bias: Tensor | None, weight: Tensor, mask: Tensor | None
) -> None:
    """Raise the ValueError of :func:`scan_tokens`."""
    if tokens.ndim != 2 or 0 in tokens.shape or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"tokens must be integers of a shape (B, T) without zeros, got {tokens.dtype} {tuple(tokens.shape)}"
        )
    E, H, dtype = embedding.shape[-1], len(weight), embedding.dtype
    expected = {
        "embedding": (embedding, dtype, (len(embedding), E)),
        "input_weight": (input_weight, dtype, (H, E)),
        "bias": (bias, dtype, (H,)),
        "weight": (weight, dtype, (H, H)),
        "mask": (mask, torch.bool, tuple(tokens.shape)),
        "tokens": (tokens, tokens.dtype, tuple(tokens.shape)),
    }
    for name, (tensor, dtype, shape) in expected.items():
        if tensor is None:
            continue
        if (tensor.dtype, tuple(tensor.shape), tensor.device) != (dtype, shape, embedding.device):
            raise ValueError(
                f"{name} must be {dtype} of shape {shape} on {embedding.device} beside the other arguments, got "
                f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
            )


class _ScanTokens(torch.autograd.Function):
    """With X the vectors of the words, P = X W_x^T + b, and n over the steps at which a word w stands,

        dP_w = sum of delta_n;   dX = dP W_x,   dW_x = dP^T X,   db = sum of dP_w

    and delta and dW as in the scan alone.
    """

    @staticmethod
    def forward(ctx, embedding, input_weight, bias, weight, tokens, mask, only_last):
        (B, T), H = tokens.shape, len(weight)
        positions = tokens.new_empty(B + 1, T)
        words = _distinct(tokens, len(embedding), positions)
        shared = False
        if mask is None:
            # the states over padding have a row of their own
            begun, longest = torch.empty(B + 1, T, dtype=torch.bool), tokens.new_empty(1)
            cpu.call("begun", B, T, PAD_INDEX, tokens, positions, begun, longest)
            shared = longest.item() > 0
            mask = begun if shared else None
        x = cpu.pad(embedding.index_select(0, words), -1)
        bias = None if bias is None else cpu.pad(bias.contiguous(), -1)
        input_weight, weight = cpu.pad(input_weight, -1, -2), cpu.pad(weight, -1, -2)
        (U, E), width = x.shape, len(weight)
        projected = x.new_empty(U, width)
        cpu.call("linear", U, E, width, x, input_weight, *input_weight.stride(), bias, projected)

        rows = B + shared
        initial_state, states = x.new_zeros(rows, width), x.new_empty(rows, T, width)
        mask = None if mask is None else mask.contiguous()
        inputs = projected, positions, weight, *weight.stride(), initial_state, mask
        cpu.call("tanh_scan_forward", B, T, width, H, *inputs, shared, only_last, states)
        ctx.save_for_backward(words, positions, x, input_weight, weight, initial_state, mask, states)
        ctx.shared, ctx.vocabulary, ctx.sizes = shared, embedding.shape, (embedding.shape[1], H)
        return states[:B, -1:, :H].clone() if only_last else states[:B, :, :H]

    @staticmethod
    @once_differentiable  # which types ctx as positional only
    def backward(ctx, gradient):  # pyright: ignore[reportIncompatibleMethodOverride]
        words, positions, x, input_weight, weight, initial_state, mask, states = ctx.saved_tensors
        (rows, T, width), (U, E) = states.shape, x.shape
        used_E, H = ctx.sizes
        sizes = len(gradient), T, width, H, gradient.shape[1]
        gradient = cpu.pad(gradient, -1).contiguous()
        delta, d_initial = torch.empty_like(states), torch.empty_like(initial_state)
        inputs = gradient, weight, *weight.stride(), states, mask
        cpu.call("tanh_scan_backward", *sizes, *inputs, ctx.shared, delta, d_initial)
        d_projected = x.new_zeros(U, width)
        cpu.call("add_rows", rows * T, width, positions, mask, delta, d_projected)

        d_embedding = d_input_weight = d_bias = d_weight = None
        if ctx.needs_input_grad[0]:
            d_x = torch.empty_like(x)
            cpu.call("linear", U, width, E, d_projected, input_weight, *reversed(input_weight.stride()), None, d_x)
            d_embedding = x.new_zeros(ctx.vocabulary)
            cpu.call("add_rows", U, used_E, words, None, d_x[:, :used_E].contiguous(), d_embedding)
        if ctx.needs_input_grad[1]:
            d_input_weight = x.new_empty(width, E)
            cpu.call("outer", 1, U, width, E, d_projected, x, None, None, d_input_weight)
            d_input_weight = d_input_weight[:H, :used_E]
        if ctx.needs_input_grad[2]:
            d_bias = d_projected.sum(0)[:H]
        if ctx.needs_input_grad[3]:
            d_weight = x.new_empty(width, width)
            cpu.call("outer", rows, T, width, width, delta, states, initial_state, mask, d_weight)
            d_weight = d_weight[:H, :H]
        return d_embedding, d_input_weight, d_bias, d_weight, None, None, None


def _distinct(tokens: Tensor, vocabulary_size: int, positions: Tensor) -> Tensor:
    """The distinct ones of `tokens`, in any order; `positions` begins with that of each token among them."""
    count = tokens.new_empty(1)
    words = tokens.new_empty(min(tokens.numel(), vocabulary_size))
    cpu.call("distinct", tokens.numel(), vocabulary_size, tokens, positions, words, count)
    found = int(count.item())
    if found < 0:
        raise IndexError(f"a token is out of range: words have numbers from 0 to {vocabulary_size - 1}")
    return words[:found]
