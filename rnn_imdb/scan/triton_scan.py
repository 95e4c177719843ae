"""The tanh scan on a CUDA device through the fused Triton kernels of triton_kernels.py; importing this imports Triton.

    h_t = tanh(p_t + W h_{t-1})        a masked step carries h_{t-1} on, and its gradient with it

B batch, T time, H state, at most 128: W stays in registers. Memory: the states; backward δ and at most as much again
for the partial sums of ∂W. float32 throughout, whatever the TF32 settings; bitwise repeatable.
"""

import torch
import triton
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnn_imdb.scan import triton_kernels


def _launch(kernel, programs, warps, *arguments, state_dim):
    block = max(32, triton.next_power_of_2(state_dim))
    # Allowed fewer than 255 registers, ptxas waits for one load before it issues the next.
    # Unasked, Triton 3.10 will fuse no FMA.
    options = {"num_warps": warps[block], "maxnreg": 255, "enable_fp_fusion": True}
    with torch.cuda.device_of(arguments[0]):
        kernel[(programs,)](*arguments, H=state_dim, BLOCK=block, **options)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projected, weight, initial_state, mask):
        batch, time, state_dim = projected.shape
        columns, initial_state = weight.t().contiguous(), initial_state.contiguous()
        states = projected.new_empty(projected.shape)
        strides = (*projected.stride(), columns.stride(0), *((0, 0) if mask is None else mask.stride()))
        tensors = (projected, columns, initial_state, mask, states)
        _launch(
            triton_kernels.forward, batch, triton_kernels.FORWARD_WARPS, *tensors, time, *strides, state_dim=state_dim
        )
        ctx.save_for_backward(weight, initial_state, mask, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream):  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, initial_state, mask, states = ctx.saved_tensors
        batch, time, state_dim = states.shape
        weight = weight if weight.stride(1) == 1 else weight.contiguous()
        # One partial ∂W a program: no more programs than keep these sums within the memory of the states.
        programs = max(1, min(batch, batch * time // state_dim))
        delta, initial_part = torch.empty_like(states), torch.empty_like(initial_state)
        weight_part = states.new_empty(programs, state_dim, state_dim)
        strides = (*upstream.stride(), weight.stride(0), *((0, 0) if mask is None else mask.stride()))
        tensors = (upstream, weight, initial_state, mask, states, delta, weight_part, initial_part)
        numbers = batch, time, *strides
        _launch(
            triton_kernels.backward, programs, triton_kernels.BACKWARD_WARPS, *tensors, *numbers, state_dim=state_dim
        )
        return delta, weight_part.sum(0), initial_part, None


def scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time state"]:
    """h_t = tanh(p_t + W h_{t-1}) for all t, differentiable once; float32, H up to 128, any strides."""
    return _Scan.apply(projected, weight, initial_state, mask)
