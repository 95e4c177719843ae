"""The backends of the scan, in the order in which ``auto`` asks them, and what each has no code for."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor

from rnn_imdb.scan import native

# the largest state whose recurrent weights fit into the registers of a program of triton_scan.py
LARGEST_TRITON_STATE = 128


class Unsupported(ValueError):
    """A backend was asked for a recurrence that it has no code for."""


class Case(NamedTuple):
    """A recurrence, as far as a backend may have no code for it."""

    device: torch.device
    dtype: torch.dtype
    state_dim: int
    masked: bool = False
    linear: bool = False


class Backend(NamedTuple):
    """One implementation.

    Attributes:
        module: where its function ``scan`` is; imported when first used.
        objection: says why it has no code for a case, or None.
        automatic_on: the one device on which ``auto`` takes it; None stands for any.
    """

    module: str
    objection: Callable[[Case], str | None]
    automatic_on: str | None = None

    @property
    def scan(self) -> Callable[..., Tensor]:
        return import_module(self.module).scan


def _tanh_alone(case: Case) -> str | None:
    return "computes tanh alone, not a linear recurrence" if case.linear else None


def _float32_alone(device: str, case: Case) -> str | None:
    if (case.device.type, case.dtype) == (device, torch.float32):
        return _tanh_alone(case)
    return f"runs in torch.float32 on a {device} device, got {case.dtype} on {case.device}"


def _cpu(case: Case) -> str | None:
    missing = None if native.available() else f"has no kernel here ({native.unavailable_reason()})"
    return _float32_alone("cpu", case) or missing


def _triton(case: Case) -> str | None:
    if case.state_dim > LARGEST_TRITON_STATE:
        most = f"a state_dim of at most {LARGEST_TRITON_STATE}"
        return f"keeps W in registers, which hold {most}, got {case.state_dim}"
    if torch.version.hip is not None:
        return f"is written for NVIDIA's GPUs, got one of ROCm {torch.version.hip}"
    missing = None if find_spec("triton") else "needs the package triton"
    return _float32_alone("cuda", case) or missing


def _cudnn(case: Case) -> str | None:
    return "takes no mask, for rnn_tanh cannot skip steps, got one" if case.masked else _tanh_alone(case)


# Fastest first. On a CPU the C kernel won at every size of `python -m rnn_imdb.benchmark`; cuDNN takes over where the
# Triton kernel ends, but on a CPU torch's RNN is slower than bptt.
BACKENDS = {
    "cpu": Backend("rnn_imdb.scan.fused", _cpu, "cpu"),
    "triton": Backend("rnn_imdb.scan.triton_scan", _triton, "cuda"),
    "cudnn": Backend("rnn_imdb.scan.cudnn", _cudnn, "cuda"),
    "bptt": Backend("rnn_imdb.scan.bptt", lambda _: None),
    "reference": Backend("rnn_imdb.scan.reference", _tanh_alone),
}
# in place of any of them where torch.export looks on
EXPORTED = Backend("rnn_imdb.scan.exported", lambda _: None)


def choose_backend(name: str, case: Case) -> str:
    """``name``, or for ``auto`` the first backend without an objection; ``exported`` while torch.export looks on.

    Raises:
        ValueError: there is no such backend.
        Unsupported: it has no code for ``case``.
    """
    if torch.compiler.is_exporting():
        return "exported"
    if name == "auto":
        # torch calls AMD's GPUs cuda, too
        device = case.device.type if torch.version.hip is None else case.device.type.replace("cuda", "rocm")
        return next(
            key
            for key, backend in BACKENDS.items()
            if backend.automatic_on in (device, None) and not backend.objection(case)
        )
    if name not in BACKENDS:
        raise ValueError(f"backend must be auto or one of {', '.join(BACKENDS)}, got {name!r}")
    if objection := BACKENDS[name].objection(case):
        raise Unsupported(f"the scan {name} {objection}: choose auto, or bptt, which runs anywhere")
    return name
