"""The recurrence of the RNN over a whole sequence: one function for each kind of input, several backends."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rnn_imdb.scan import fused
from rnn_imdb.scan.backends import BACKENDS, Case, Unsupported, choose_backend, load_scan
from rnn_imdb.scan.fused import lookup, project_inputs

__all__ = [
    "BACKENDS",
    "Case",
    "Unsupported",
    "choose_backend",
    "linear_scan",
    "lookup",
    "project_inputs",
    "scan_tokens",
    "scan_vectors",
    "tanh_scan",
]


def tanh_scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """All states of a tanh recurrence,

        h_t = tanh(projected_t + W h_{t-1})        h_t = h_{t-1} where ``mask`` is False

    Args:
        projected: input part of each step, for example ``A_x x_t + b``, (B, T, H).
        weight: recurrent weights W, (H, H); may be strided, for example a part of A.
        initial_state: h_0, (B, H).
        mask: True at real steps, (B, T); None means that all are real.
        backend: a name in ``BACKENDS``, or ``auto`` for the fastest that supports this case.
        only_last: whether h_T is all that is wanted; the C kernel then makes no gradient for the other states.

    Returns:
        h_1 .. h_T, (B, T, H); h_T, (B, 1, H), where only the last is wanted.

    Raises:
        ValueError: a shape, dtype or device does not fit the others.
        Unsupported: the backend has no code for this case.
    """
    return _scan(projected, weight, initial_state, mask, backend, only_last, linear=False)


def linear_scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """All states of a linear recurrence, with arguments, result and errors of :func:`tanh_scan`,

        h_t = projected_t + W h_{t-1}        h_t = h_{t-1} where ``mask`` is False

    With eigenvalues of W outside the unit circle long sequences may overflow to inf.
    """
    return _scan(projected, weight, initial_state, mask, backend, only_last, linear=True)


def _scan(
    projected: Tensor,
    weight: Tensor,
    initial_state: Tensor,
    mask: Tensor | None,
    backend: str,
    only_last: bool,
    *,
    linear: bool,
) -> Tensor:
    _check_steps("projected", projected)
    B, T, H = projected.shape
    dtype = projected.dtype
    _check(
        projected.device,
        weight=(weight, dtype, (H, H)),
        initial_state=(initial_state, dtype, (B, H)),
        mask=(mask, torch.bool, (B, T)),
    )
    backend = choose_backend(backend, Case(projected.device, dtype, H, mask is not None, linear))
    if backend == "cpu":
        return fused.scan(projected, weight, initial_state, mask, only_last=only_last)
    options = {"linear": True} if linear else {}
    states = load_scan(backend)(projected, weight, initial_state, mask, **options)
    return states[:, -1:] if only_last else states


def scan_vectors(
    inputs: Float[Tensor, "batch time embedding"],
    A: Float[Tensor, "state state_and_embedding"],
    bias: Float[Tensor, " state"] | None = None,
    initial_state: Float[Tensor, "batch state"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    linear: bool = False,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``tanh_scan`` of p_t = W_x x_t + b, or ``linear_scan``.

    Args:
        inputs: x_1 .. x_T, (B, T, E).
        A: recurrent weights W beside input weights W_x, (H, H + E).
        bias: b, (H,), or None.
        initial_state: h_0, (B, H); None stands for zeros.
        mask, backend, only_last: as for ``tanh_scan``.
        linear: whether the recurrence is linear.

    Raises:
        ValueError: a shape, dtype or device does not fit the others.
        Unsupported: the backend has no code for this case.
    """
    _check_steps("inputs", inputs)
    (B, T, E), H, dtype = inputs.shape, len(A), inputs.dtype
    _check(
        inputs.device,
        A=(A, dtype, (H, H + E)),
        bias=(bias, dtype, (H,)),
        initial_state=(initial_state, dtype, (B, H)),
        mask=(mask, torch.bool, (B, T)),
    )
    if initial_state is None:
        initial_state = inputs.new_zeros(B, H)
    backend = choose_backend(backend, Case(inputs.device, dtype, H, mask is not None, linear))
    # of one split, since autograd would pad and add up the gradients of two slices
    weight, input_weight = A.split([H, E], dim=1)
    if backend == "cpu":
        return fused.scan(inputs, weight, initial_state, mask, input_weight, bias, only_last=only_last)
    # under autocast the product may come in a shorter dtype than the recurrence runs in
    projected = project_inputs(inputs, input_weight, bias).to(dtype)
    return _scan(projected, weight, initial_state, mask, backend, only_last, linear=linear)


def scan_tokens(
    tokens: Int[Tensor, "batch time"],
    embedding: Float[Tensor, "vocabulary embedding"],
    A: Float[Tensor, "state state_and_embedding"],
    bias: Float[Tensor, " state"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    padding_index: int,
    linear: bool = False,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``scan_vectors`` of x_t = embedding[token_t] from h_0 = 0: its values, and its gradients to rounding.

    Args:
        tokens: words, (B, T).
        embedding: a vector x for each word, (V, E).
        padding_index: the token that many rows begin with. Its states are computed once for all of them; the result
            is the same whichever token is named.
        A, bias, mask, backend, linear, only_last: as for :func:`scan_vectors`.

    Raises:
        IndexError: a token is outside the vocabulary.
        ValueError: a shape, dtype or device does not fit the others.
        Unsupported: the backend has no code for this case.
    """
    if tokens.ndim != 2 or 0 in tokens.shape or tokens.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"tokens must be integers of a shape (B, T) without zeros, got {tokens.dtype} {tuple(tokens.shape)}"
        )
    (B, T), E, H, dtype = tokens.shape, embedding.shape[-1], len(A), embedding.dtype
    _check(
        embedding.device,
        tokens=(tokens, tokens.dtype, (B, T)),
        embedding=(embedding, dtype, (len(embedding), E)),
        A=(A, dtype, (H, H + E)),
        bias=(bias, dtype, (H,)),
        mask=(mask, torch.bool, (B, T)),
    )
    backend = choose_backend(backend, Case(embedding.device, dtype, H, mask is not None, linear))
    if backend != "cpu":
        inputs = lookup(embedding, tokens)
        return scan_vectors(inputs, A, bias, None, mask, backend, linear=linear, only_last=only_last)
    weight, input_weight = A.split([H, E], dim=1)
    return fused.scan_tokens(tokens, embedding, weight, input_weight, bias, mask, padding_index, only_last=only_last)


def _check_steps(name: str, x: Tensor) -> None:
    if x.ndim != 3 or 0 in x.shape or not x.is_floating_point():
        raise ValueError(
            f"{name} must be of a floating dtype and of a shape (batch, time, size) without zeros, "
            f"got {x.dtype} of shape {tuple(x.shape)}"
        )


def _check(device: torch.device, **arguments: tuple[Tensor | None, torch.dtype, tuple[int, ...]]) -> None:
    """Raise ValueError unless each tensor lies on ``device``, has the dtype and shape beside it, and is not empty."""
    for name, (tensor, dtype, shape) in arguments.items():
        if tensor is None:
            continue
        if (tensor.dtype, tuple(tensor.shape), tensor.device) != (dtype, shape, device) or 0 in shape:
            raise ValueError(
                f"{name} must be {dtype} of shape {shape}, without zeros, on {device} beside the other arguments, got "
                f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
            )
