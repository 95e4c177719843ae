"""The scan as the one operator that torch.export and ONNX have for a loop, whatever its length; no gradients."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch._higher_order_ops import scan as scan_operator  # private, but what torch.onnx knows as Scan


def scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
    *,
    linear: bool = False,
) -> Float[Tensor, "batch time state"]:
    """h_t = tanh(projected_t + W h_{t-1}), or h_{t-1} where ``mask`` is False; without tanh where it is ``linear``."""
    real = torch.ones_like(projected[:, :, 0], dtype=torch.bool) if mask is None else mask

    def step(state: Tensor, inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        p, is_real = inputs
        new = p + state @ weight.T
        new = torch.where(is_real[:, None], new if linear else torch.tanh(new), state)
        # an operator's results may not be one tensor
        return new, new.clone()

    _, states = scan_operator(step, initial_state, (projected.transpose(0, 1), real.T))
    return states.transpose(0, 1)
