"""From the states of a sequence to the features of one decision: many-to-one.

Each readout is a module with ``features``, the size F of what it gives, and
``forward(states (B, T, H), mask (B, T) or None) -> (B, F)``. Steps where the mask is False are padding.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rnn_imdb.scan import project_inputs

States = Float[Tensor, "batch time state"]
Mask = Bool[Tensor, "batch time"] | None
Features = Float[Tensor, "batch features"]


class Readout(nn.Module):
    """States (B, T, H) → features (B, F).

    Args:
        features: F.

    Attributes:
        only_last: whether the last state is all that is read, so that no other need be given.
    """

    only_last = False

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features


class LastState(Readout):
    """h_T: the lecture's first model. Padding behind the review is safe only under a mask, which carries h on.

    >>> LastState(state_dim=32, sequence_length=500)(torch.zeros(4, 500, 32)).shape
    torch.Size([4, 32])
    """

    only_last = True

    def __init__(self, state_dim: int, sequence_length: int) -> None:
        super().__init__(features=state_dim)

    def forward(self, states: Float[Tensor, "batch steps state"], mask: Mask = None) -> Features:
        return states[:, -1]


class AllStates(Readout):
    """[h_1; ...; h_T]: the lecture's second model, whose head has a weight for each state of each step.

    Zeros stand where the mask is False. The head fixes T, so a review moved by one step is another input.

    >>> AllStates(state_dim=32, sequence_length=500)(torch.zeros(4, 500, 32)).shape
    torch.Size([4, 16000])
    """

    def __init__(self, state_dim: int, sequence_length: int) -> None:
        super().__init__(features=state_dim * sequence_length)

    def forward(self, states: States, mask: Mask = None) -> Features:
        if mask is not None:
            states = states.masked_fill(~mask[:, :, None], 0)
        return states.flatten(1)


class MeanState(Readout):
    """Σ_t h_t / T, over the real steps; zeros for a review without any.

    >>> states, mask = torch.tensor([[[1.0], [2.0], [6.0]]]), torch.tensor([[False, True, True]])
    >>> MeanState(state_dim=1, sequence_length=3)(states), MeanState(1, 3)(states, mask)
    (tensor([[3.]]), tensor([[4.]]))
    """

    def __init__(self, state_dim: int, sequence_length: int) -> None:
        super().__init__(features=state_dim)

    def forward(self, states: States, mask: Mask = None) -> Features:
        if mask is None:
            return states.mean(dim=1)
        real = mask[:, :, None].to(states.dtype)
        return (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


class MaxState(Readout):
    """max_t h_t for each component, over the real steps; zeros for a review without any.

    >>> MaxState(state_dim=2, sequence_length=2)(torch.tensor([[[1.0, 4.0], [3.0, 2.0]]]))
    tensor([[3., 4.]])
    """

    def __init__(self, state_dim: int, sequence_length: int) -> None:
        super().__init__(features=state_dim)

    def forward(self, states: States, mask: Mask = None) -> Features:
        if mask is None:
            return states.amax(dim=1)
        # below every state, and unlike -inf it leaves gradients finite
        lowest = torch.finfo(states.dtype).min
        highest = states.masked_fill(~mask[:, :, None], lowest).amax(dim=1)
        return highest * mask.any(dim=1, keepdim=True)


class MeanMaxState(Readout):
    """[mean_t h_t; max_t h_t], each as the readout of that name.

    Howard and Ruder, Universal Language Model Fine-tuning for Text Classification (2018), whose concat pooling has
    the last state too.

    >>> MeanMaxState(state_dim=1, sequence_length=2)(torch.tensor([[[1.0], [3.0]]]))
    tensor([[2., 3.]])
    """

    def __init__(self, state_dim: int, sequence_length: int) -> None:
        super().__init__(features=2 * state_dim)
        self.mean = MeanState(state_dim, sequence_length)
        self.max = MaxState(state_dim, sequence_length)

    def forward(self, states: States, mask: Mask = None) -> Features:
        return torch.cat([self.mean(states, mask), self.max(states, mask)], dim=1)


class AttentionState(Readout):
    """Σ_t a_t h_t with a = softmax_t(v · h_t) over the real steps; zeros for a review without any.

    Raffel and Ellis, Feed-Forward Networks with Attention Can Solve Some Long-Term Memory Problems (2016), with a
    linear score. v starts at zero, where the readout is the mean.

    >>> AttentionState(state_dim=1, sequence_length=2)(torch.tensor([[[1.0], [3.0]]])).item()
    2.0
    """

    def __init__(self, state_dim: int, sequence_length: int) -> None:
        super().__init__(features=state_dim)
        self.v = nn.Parameter(torch.zeros(state_dim))

    def forward(self, states: States, mask: Mask = None) -> Features:
        scores = project_inputs(states, self.v[None]).squeeze(2)  # (B, T)
        if mask is not None:
            # the lowest finite number keeps the softmax of an all-padding row finite
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        # over the first dimension torch sums in one order on every CPU; float64 hides in which way it computes exp
        precise = torch.float64 if scores.is_cpu else scores.dtype
        weights = scores.T.contiguous().softmax(dim=0, dtype=precise).to(scores.dtype).T
        pooled = (weights[:, :, None] * states).sum(dim=1)
        return pooled if mask is None else pooled * mask.any(dim=1, keepdim=True)


# a new readout is a class above and a line here
READOUTS = {
    "last": LastState,
    "all": AllStates,
    "mean": MeanState,
    "max": MaxState,
    "mean_max": MeanMaxState,
    "attention": AttentionState,
}
