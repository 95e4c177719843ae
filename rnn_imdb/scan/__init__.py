"""The recurrence of the tanh RNN over a whole sequence: one function, several backends."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rnn_imdb.common.errors import NotServed
from rnn_imdb.scan import native
from rnn_imdb.scan.bptt import Recurrence
from rnn_imdb.scan.limits import unserved

Scan = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]

# a backend by name, imported when first used
SCANS = {
    "reference": "rnn_imdb.scan.reference",
    "bptt": "rnn_imdb.scan.bptt",
    "cpu": "rnn_imdb.scan.native",
    "triton": "rnn_imdb.scan.triton_scan",
    "cudnn": "rnn_imdb.scan.cudnn",
}


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
        backend: a name in ``SCANS``, or ``auto`` for :func:`choose_backend`.
        only_last: whether h_T is all that is wanted; on a CPU no gradient is then made for the other states.

    Returns:
        h_1 .. h_T, (B, T, H); h_T, (B, 1, H), where only the last is wanted.

    Raises:
        ValueError: a shape, dtype or device does not fit the others.
        NotServed: the backend does not serve this case.
    """
    check_inputs(projected, weight, initial_state, mask)
    backend = find_backend(backend, projected.device, projected.dtype, projected.shape[2], masked=mask is not None)
    if only_last and backend == "cpu":
        return native.scan(projected, weight, initial_state, mask, only_last=True)
    states = find_scan(backend)(projected, weight, initial_state, mask)
    return states[:, -1:] if only_last else states


def choose_backend(device: torch.device, dtype: torch.dtype, state_dim: int, *, masked: bool) -> str:
    """The fastest backend that serves a case: ``cpu`` and ``triton`` are fused, in float32 only.

    On a CPU ``cpu`` was the fastest at every size of ``python -m rnn_imdb.benchmark``; ``bptt`` serves without a
    compiled kernel, and other dtypes. On NVIDIA's GPUs cuDNN takes over where the fused kernel ends, but knows no mask.
    """
    if device.type == "cpu" and dtype == torch.float32 and native.available():
        return "cpu"
    # AMD's GPUs have the same name
    if device.type == "cuda" and torch.version.hip is None:
        serves = {name: unserved(name, state_dim, masked=masked) is None for name in ("triton", "cudnn")}
        if dtype == torch.float32 and serves["triton"] and find_spec("triton") is not None:
            return "triton"
        if serves["cudnn"]:
            return "cudnn"
    return "bptt"


def find_scan(backend: str) -> Scan:
    """The function behind the name ``backend``.

    Raises:
        ValueError: there is no such backend.
    """
    if backend not in SCANS:
        raise ValueError(f"backend must be auto or one of {', '.join(SCANS)}, got {backend!r}")
    return import_module(SCANS[backend]).scan


# where the fused kernels run, in float32 alone; the other backends take any device and dtype
_FUSED = {"cpu": "cpu", "triton": "cuda"}


def find_backend(backend: str, device: torch.device, dtype: torch.dtype, state_dim: int, *, masked: bool) -> str:
    """``backend``, or for ``auto`` that of :func:`choose_backend`.

    Raises:
        NotServed: it does not run on ``device`` in ``dtype``, or not with such a state or a mask.
    """
    if backend == "auto":
        return choose_backend(device, dtype, state_dim, masked=masked)
    if reason := unserved(backend, state_dim, masked=masked):
        raise NotServed(reason)
    if backend in _FUSED and (device.type, dtype) != (_FUSED[backend], torch.float32):
        raise NotServed(
            f"the scan {backend} runs in torch.float32 on a {_FUSED[backend]} device, got {dtype} on {device}: "
            "set model.scan=auto, or bptt, which runs anywhere"
        )
    if backend == "triton" and torch.version.hip is not None:
        raise NotServed(
            f"the scan triton is written for NVIDIA's GPUs, got one of ROCm {torch.version.hip}: set model.scan=auto, "
            "or bptt, which runs anywhere"
        )
    if backend == "cpu" and not native.available():
        raise NotServed(f"the scan cpu has no kernel here: {native.unavailable_reason()}, or set model.scan=auto")
    return backend


def check_inputs(projected: Tensor, weight: Tensor, initial_state: Tensor, mask: Tensor | None) -> None:
    """Raise the ValueError of :func:`tanh_scan` about shapes, dtypes and devices."""
    if projected.ndim != 3 or 0 in projected.shape:
        raise ValueError(f"projected must have a shape (B, T, H) without zeros, got {tuple(projected.shape)}")
    batch, time, state = projected.shape
    expected = {"weight": (weight, (state, state)), "initial_state": (initial_state, (batch, state))}
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape} beside projected {(batch, time, state)}, got {tuple(tensor.shape)}"
            )
        if tensor.dtype != projected.dtype or tensor.device != projected.device:
            raise ValueError(
                f"{name} must be {projected.dtype} on {projected.device} like projected, "
                f"got {tensor.dtype} on {tensor.device}"
            )
    if not projected.is_floating_point():
        raise ValueError(f"projected must be of a floating dtype, got {projected.dtype}")
    if mask is not None and (tuple(mask.shape) != (batch, time) or mask.dtype != torch.bool):
        raise ValueError(f"mask must be torch.bool of shape {(batch, time)}, got {mask.dtype} {tuple(mask.shape)}")
    if mask is not None and mask.device != projected.device:
        raise ValueError(f"mask must be on {projected.device} like projected, got {mask.device}")


def linear_scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time state"]:
    """All states of a linear recurrence,

        h_t = projected_t + W h_{t-1}        h_t = h_{t-1} where ``mask`` is False

    Arguments, result and errors are those of ``rnn_imdb.scan.tanh_scan``; the backward pass is that of
    ``rnn_imdb.scan.bptt`` with a slope of one. With eigenvalues of W outside the unit circle long sequences may
    overflow to inf.
    """
    check_inputs(projected, weight, initial_state, mask)
    return Recurrence.apply(projected, weight, initial_state, mask, False)  # pyright: ignore[reportReturnType]
