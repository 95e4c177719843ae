"""The loop that defines the truth; autograd does the backward."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def scan(
    projected: Float[Tensor, "batch time state"],
    weight: Float[Tensor, "state state"],
    initial_state: Float[Tensor, "batch state"],
    mask: Bool[Tensor, "batch time"] | None = None,
) -> Float[Tensor, "batch time state"]:
    """h_t = tanh(projected_t + W h_{t-1}), or h_{t-1} where ``mask`` is False."""
    state = initial_state
    states = []
    for t in range(projected.shape[1]):
        new = torch.tanh(projected[:, t] + state @ weight.T)
        state = new if mask is None else torch.where(mask[:, t, None], new, state)
        states.append(state)
    return torch.stack(states, dim=1)
