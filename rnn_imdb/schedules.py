"""How the learning rate moves over a run: its factor where a share ``s`` of the steps is done, 0 <= s <= 1."""

import math
from collections.abc import Callable

from rnn_imdb.choices import SCHEDULES


def make_schedule(name: str) -> Callable[[float], float]:
    """The schedule called ``name``.

    Raises:
        ValueError: there is no such schedule.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
    return globals()[SCHEDULES[name]]


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
