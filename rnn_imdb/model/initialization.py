"""How parameters are drawn before the training."""

import math
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Initializer(Protocol):
    """Draws the parameters of each kind of layer anew, in place."""

    def embedding(self, layer: nn.Embedding) -> None: ...

    def layer(self, layer: nn.Linear | nn.Conv1d) -> None: ...

    def recurrence(self, recurrent_weight: Tensor, input_weight: Tensor, bias: Tensor | None) -> None: ...


def spectral_radius(weight: Float[Tensor, "state state"]) -> float:
    """max |λ| over the eigenvalues of ``weight``; NaN where these are not finite.

    >>> spectral_radius(torch.diag(torch.tensor([0.5, -0.75])))
    0.75
    """
    # LAPACK may crash
    if not weight.isfinite().all():
        return math.nan
    # first to the CPU: not every device has float64 or this function, and a GPU is no faster at small matrices
    return torch.linalg.eigvals(weight.detach().cpu().double()).abs().max().float().item()


def orthogonal_(weight: Tensor) -> None:
    """Fill a square matrix as ``nn.init.orthogonal_`` does, to rounding: with the orthogonal factor of a normal one.

    Gram and Schmidt's way in float64 gives the same bits on every CPU. LAPACK, which is faster, does not; it is left
    matrices for which the difference would be seconds.
    """
    if len(weight) > 512:
        nn.init.orthogonal_(weight)
        return
    columns = weight.new_empty(weight.shape).normal_().double()
    for j in range(len(columns)):
        column = columns[:, j : j + 1]
        column /= column.square().sum(0).sqrt()
        rest = columns[:, j + 1 :]
        rest -= column * (column * rest).sum(0)
    weight.copy_(columns)


class KerasInitializer:
    """Keras's defaults: embedding U(±0.05), weights U(±√(6 / (fan_in + fan_out))), recurrence orthogonal, biases zero.

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (2010); Saxe,
    McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear networks (2014).
    """

    def embedding(self, layer: nn.Embedding) -> None:
        nn.init.uniform_(layer.weight, -0.05, 0.05)

    def layer(self, layer: nn.Linear | nn.Conv1d) -> None:
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)

    def recurrence(self, recurrent_weight: Tensor, input_weight: Tensor, bias: Tensor | None) -> None:
        orthogonal_(recurrent_weight)
        nn.init.xavier_uniform_(input_weight)
        if bias is not None:
            nn.init.zeros_(bias)


class TorchInitializer:
    """torch's defaults: embedding N(0, 1), layers U(±1/√fan_in), the recurrence U(±1/√H), biases like their weights.

    These are what ``nn.Embedding``, ``nn.Linear``, ``nn.Conv1d`` and ``nn.RNN`` draw (but ``nn.RNN`` has two biases).
    """

    def embedding(self, layer: nn.Embedding) -> None:
        nn.init.normal_(layer.weight)

    def layer(self, layer: nn.Linear | nn.Conv1d) -> None:
        layer.reset_parameters()

    def recurrence(self, recurrent_weight: Tensor, input_weight: Tensor, bias: Tensor | None) -> None:
        bound = 1 / math.sqrt(len(recurrent_weight))
        for part in (recurrent_weight, input_weight, bias):
            if part is not None:
                nn.init.uniform_(part, -bound, bound)


INITIALIZERS: dict[str, type[Initializer]] = {"keras": KerasInitializer, "torch": TorchInitializer}
