"""Backpropagation through time derived by hand, in plain torch: any device, any floating dtype."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    *,
    linear: bool = False,
) -> Float[Tensor, "batch time state"]:
    """h_t = tanh(projected_t + W h_{t-1}), or h_{t-1} where ``mask`` is False.

    With g_t = dL/dh_t from above and the chain c_T = 0, the backward pass is, for t = T .. 1,

        r_t = g_t + c_t
        δ_t = r_t (1 - h_t²)        c_{t-1} = W^T δ_t          where the step is real
        δ_t = 0                     c_{t-1} = r_t              where it is masked

    and dL/dprojected_t = δ_t, dL/dW = Σ_t δ_t h_{t-1}^T (one product over all steps and rows), dL/dh_0 = c_0.
    Werbos, Backpropagation through time (1990). Where the recurrence is ``linear``, there is no tanh, and its slope
    1 - h_t² is 1.
    """
    return _Recurrence.apply(projected, weight, initial_state, mask, linear)  # pyright: ignore[reportReturnType]


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, weight: Tensor, initial_state: Tensor, mask: Tensor | None, linear: bool
    ) -> Tensor:
        time = projected.shape[1]
        # time first, so that each step is one contiguous block; slot 0 is the initial state
        states = projected.new_empty(time + 1, *initial_state.shape)  # (T+1, B, H)
        states[0] = initial_state
        states[1:] = projected.transpose(0, 1)
        transposed = weight.T
        for t in range(1, time + 1):
            states[t].addmm_(states[t - 1], transposed)
            if not linear:
                states[t].tanh_()
            if mask is not None:
                torch.where(mask[:, t - 1, None], states[t], states[t - 1], out=states[t])
        ctx.save_for_backward(states, weight, mask)
        ctx.linear = linear
        return states[1:].transpose(0, 1)

    @staticmethod
    @once_differentiable
    # one output, so one gradient
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        states, weight, mask = ctx.saved_tensors
        time = len(states) - 1
        # δ is filled in where the gradient of the states stood
        delta = grad_states.transpose(0, 1).clone(memory_format=torch.contiguous_format)  # (T, B, H)
        slope = None if ctx.linear else 1 - states[1:].square()
        chain = torch.zeros_like(states[0])
        for t in range(time - 1, -1, -1):
            if mask is None:
                if t < time - 1:
                    delta[t].addmm_(delta[t + 1], weight)
                if slope is not None:
                    delta[t].mul_(slope[t])
            else:
                real = mask[:, t, None]
                reaching = delta[t] + chain
                # not a product with the mask: a linear recurrence may have overflowed at a masked step
                delta[t] = torch.where(real, reaching if slope is None else reaching * slope[t], 0)
                chain = torch.where(real, delta[t] @ weight, reaching)
        if mask is None:
            chain = delta[0] @ weight
        grad_weight = delta.flatten(0, 1).T @ states[:-1].flatten(0, 1)
        return delta.transpose(0, 1), grad_weight, chain, None, None
