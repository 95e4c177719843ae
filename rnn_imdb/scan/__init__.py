"""The recurrence of the RNN over a whole sequence, with its projection and lookup: several backends."""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rnn_imdb.scan import fused
from rnn_imdb.scan.backends import BACKENDS, EXPORTED, Case, Unsupported, choose_backend
from rnn_imdb.scan.fused import dot, lookup, project_inputs

__all__ = [
    "BACKENDS",
    "Case",
    "Unsupported",
    "choose_backend",
    "dot",
    "lookup",
    "project_inputs",
    "scan_inputs",
    "tanh_scan",
]


def tanh_scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    linear: bool = False,
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
        linear: whether to leave out the tanh. Where W has eigenvalues outside the unit circle, long sequences may then
            overflow to inf.
        only_last: whether h_T is all that is wanted; the C kernel then makes no gradient for the other states.

    Returns:
        h_1 .. h_T, (B, T, H); h_T, (B, 1, H), where only the last is wanted.

    Raises:
        ValueError: a shape, dtype or device does not fit the others.
        Unsupported: the backend has no code for this case.

    >>> projected, h_0 = torch.ones(1, 3, 2), torch.zeros(1, 2)
    >>> tanh_scan(projected, torch.zeros(2, 2), h_0)[0, -1]
    tensor([0.7616, 0.7616])
    """
    B, T, H = _sizes("projected", projected, 3)
    _check(projected, weight=(weight, H, H), initial_state=(initial_state, B, H), mask=(mask, B, T))
    backend = choose_backend(backend, Case(projected.device, projected.dtype, H, mask is not None, linear))
    if backend == "cpu":
        return fused.scan(projected, weight, initial_state, mask, only_last=only_last)
    scan = EXPORTED.scan if backend == "exported" else BACKENDS[backend].scan
    states = scan(projected, weight, initial_state, mask, **({"linear": True} if linear else {}))
    return states[:, -1:] if only_last else states


def scan_inputs(
    inputs: Float[Tensor, "batch time embedding"] | Int[Tensor, "batch time"],
    A: Float[Tensor, "state state_and_embedding"],
    bias: Float[Tensor, " state"] | None = None,
    initial_state: Float[Tensor, "batch state"] | None = None,
    mask: Bool[Tensor, "batch time"] | None = None,
    backend: str = "auto",
    *,
    embedding: Float[Tensor, "vocabulary embedding"] | None = None,
    padding_index: int = 0,
    linear: bool = False,
    only_last: bool = False,
) -> Float[Tensor, "batch steps state"]:
    """``tanh_scan`` of p_t = W_x x_t + b, with its other arguments, result and errors.

    Args:
        inputs: x_1 .. x_T, (B, T, E); with an ``embedding`` the words (B, T), of which x_t is embedding[word_t].
        A: recurrent weights W beside input weights W_x, (H, H + E).
        bias: b, (H,), or None.
        initial_state: h_0, (B, H); None stands for zeros.
        embedding: a vector x for each word, (V, E).
        padding_index: the word that many rows begin with. Its states are computed once for all of them; which word is
            named changes no result.

    Raises:
        IndexError: a word is outside the vocabulary.

    >>> scan_inputs(torch.ones(4, 7, 3), A=torch.zeros(5, 5 + 3)).shape
    torch.Size([4, 7, 5])
    """
    table = inputs if embedding is None else embedding
    (B, T, *_), H, E = _sizes("inputs", inputs, 3 if embedding is None else 2), len(A), table.shape[-1]
    shapes = {"embedding": (embedding, table.shape[0], E), "inputs": (inputs, *inputs.shape), "mask": (mask, B, T)}
    _check(table, A=(A, H, H + E), bias=(bias, H), initial_state=(initial_state, B, H), **shapes)
    backend = choose_backend(backend, Case(table.device, table.dtype, H, mask is not None, linear))
    if embedding is not None and (backend != "cpu" or initial_state is not None):
        inputs, embedding = lookup(embedding, inputs), None
    if backend == "cpu":
        options = {"padding_index": padding_index, "only_last": only_last}
        if embedding is None:
            return fused.scan(inputs, A, initial_state, mask, bias, **options)
        return fused.scan(embedding, A, None, mask, bias, inputs, **options)
    if initial_state is None:
        initial_state = inputs.new_zeros(B, H)
    # of one split, since autograd would pad and add up the gradients of two slices
    weight, input_weight = A.split([H, E], dim=1)
    # under autocast the product may come in a shorter dtype than the recurrence runs in
    projected = project_inputs(inputs, input_weight, bias).to(inputs.dtype)
    return tanh_scan(projected, weight, initial_state, mask, backend, linear=linear, only_last=only_last)


def _sizes(name: str, x: Tensor, rank: int) -> torch.Size:
    """The sizes of vectors (rank 3) or words (rank 2). ValueError where they are no such, or one size is 0."""
    known = x.is_floating_point() if rank == 3 else x.dtype in (torch.int64, torch.int32)
    if x.ndim != rank or 0 in x.shape or not known:
        rule = "floating, of a shape (batch, time, size)" if rank == 3 else "int64 or int32, of a shape (batch, time)"
        raise ValueError(f"{name} must be {rule} without zeros, got {x.dtype} of shape {tuple(x.shape)}")
    return x.shape


def _check(like: Tensor, **arguments: Any) -> None:
    """Raise ValueError unless each tensor has the shape that follows it, without zeros, and dtype and device of `like`.

    Masks are bool; inputs have any dtype.
    """
    for name, (tensor, *shape) in arguments.items():
        if tensor is None:
            continue
        dtype = {"mask": torch.bool, "inputs": tensor.dtype}.get(name, like.dtype)
        if (tensor.dtype, list(tensor.shape), tensor.device) != (dtype, shape, like.device) or 0 in shape:
            raise ValueError(
                f"{name} must be {dtype} of shape {tuple(shape)}, without zeros, on {like.device} beside the other "
                f"arguments, got {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
            )
