"""RMSprop in one pass over the weights."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnn_imdb.scan import native


class RMSprop(torch.optim.RMSprop):
    """``torch.optim.RMSprop``, to rounding, with its arguments and state, but Keras's defaults; several times faster.

        s = alpha s + (1 - alpha) g^2;    w = w - lr g / (sqrt(s) + eps)

    Hinton, Srivastava and Swersky, Neural Networks for Machine Learning, lecture 6 (2012). torch makes five passes over
    the weights, one of them by MKL's square root, which takes seven times as long where s is zero, as it is for words
    that have not occurred yet, or not for long. Momentum, centering and what is not a float32 tensor on a CPU are left
    to torch, as is everything where the package has no compiled kernel.
    """

    def __init__(self, params: Any, lr: float = 0.001, alpha: float = 0.9, eps: float = 1e-7, **further: Any) -> None:
        super().__init__(params, lr, alpha, eps, **further)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of every weight that has a gradient; the loss, where ``closure`` computes it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not all(_is_plain(group) for group in self.param_groups):
            super().step()
            return loss
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._step_one(weight, group)
        return loss

    def _step_one(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            # as torch has it, so that a checkpoint of either serves both
            state["step"], state["square_avg"] = torch.zeros((), device="cpu"), torch.zeros_like(weight)
        if not isinstance(state["square_avg"], Tensor):
            raise TypeError(f"square_avg must be a tensor of the weight's shape, got {state['square_avg']!r}")
        state["step"] += 1
        alpha = group["alpha"]
        numbers = float(group["lr"]), alpha, 1 - alpha, group["eps"], group["weight_decay"]
        native.call("rmsprop", (weight.numel(), *numbers), weight.grad, weight, state["square_avg"])
        torch.autograd.graph.increment_version([weight])


def _is_plain(group: dict[str, Any]) -> bool:
    """Whether the kernel supports all weights of a group."""
    if any(group[name] for name in ("momentum", "centered", "maximize", "capturable", "differentiable")):
        return False
    weights = [weight for weight in group["params"] if weight.grad is not None]
    return all(
        native.supports(tensor) and tensor.layout == torch.strided and tensor.is_contiguous()
        for weight in weights
        for tensor in (weight, weight.grad)
    )


def linear(s: float) -> float:
    """1 - s"""
    return 1 - s


def cosine(s: float) -> float:
    """(1 + cos πs) / 2. Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017)."""
    return (1 + math.cos(math.pi * s)) / 2


def one_cycle(s: float) -> float:
    """From 1/25 up to 1 in three tenths of the run, then down to 1/250,000, both along a cosine.

    Smith and Topin, Super-Convergence (2018), with the settings of torch's OneCycleLR, but a momentum that stays.
    """
    if s < 0.3:
        return 1 + (1 / 25 - 1) * cosine(s / 0.3)
    low = 1 / 250_000
    return low + (1 - low) * cosine((s - 0.3) / 0.7)


OPTIMIZERS = {"rmsprop": RMSprop, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
SCHEDULES = {"linear": linear, "cosine": cosine, "one_cycle": one_cycle}
