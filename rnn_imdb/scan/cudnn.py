"""The tanh scan through torch.rnn_tanh: cuDNN's on a CUDA device, ATen's on a CPU.

    h_t = tanh(I p_t + W h_{t-1})        I: the identity, so that `projected` enters as rnn_tanh's input

The fused kernels have no such product. It makes all of h_t NaN where a component of p_t is (0 · NaN); from h_{t+1} on
there is no difference. cuDNN's TF32 is off, forward and backward, and the caller's setting is put back.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

# A module that torch replaces by an object with properties: type checkers cannot see them.
rnn_precision: Any = torch.backends.cudnn.rnn


@contextmanager
def precision(name: str = "ieee") -> Iterator[None]:
    """Let cuDNN's recurrences run in this precision."""
    # rnn.fp32_precision can be read and restored whichever interface the caller used; allow_tf32 cannot.
    before = rnn_precision.fp32_precision
    rnn_precision.fp32_precision = name
    try:
        yield
    finally:
        rnn_precision.fp32_precision = before


def _rnn(projected: Tensor, weight: Tensor, initial_state: Tensor) -> Tensor:
    state_dim = weight.shape[0]
    # ±∞ would meet the zeros of I as NaN; the largest float saturates tanh as well.
    limit = torch.finfo(projected.dtype).max
    # One buffer in cuDNN's order, or it copies the weights and warns at every call.
    parameters = torch.cat([torch.eye(state_dim, dtype=weight.dtype, device=weight.device), weight])
    tensors = projected.clamp(-limit, limit), initial_state[None].contiguous(), parameters.split(state_dim)
    options = {"has_biases": False, "num_layers": 1, "dropout": 0.0, "bidirectional": False, "batch_first": True}
    return torch.rnn_tanh(*tensors, train=torch.is_grad_enabled(), **options)[0]


class _Scan(torch.autograd.Function):
    """A graph within a node: autograd alone would run cuDNN's backward after the setting is put back."""

    @staticmethod
    def forward(ctx, *tensors):
        with torch.enable_grad(), precision():
            ctx.inputs = [tensor.detach().requires_grad_() for tensor in tensors]
            ctx.states = _rnn(*ctx.inputs)
        return ctx.states.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):  # pyright: ignore[reportIncompatibleMethodOverride]
        with precision():
            return torch.autograd.grad(ctx.states, ctx.inputs, upstream, retain_graph=True)


def scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: None = None,
) -> Float[Tensor, "batch time state"]:
    """h_t = tanh(p_t + W h_{t-1}) for all t, differentiable once; any strides, no mask."""
    assert mask is None, "the table of backends says that it takes none"
    if torch.is_grad_enabled():
        return _Scan.apply(projected, weight, initial_state)
    with precision():
        return _rnn(projected, weight, initial_state)
