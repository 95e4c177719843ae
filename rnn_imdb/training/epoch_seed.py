"""Randomness that depends on (seed, epoch, process) alone, so that a resumed epoch draws the same numbers."""

from typing import Any

import lightning.pytorch as L
import numpy as np
import torch


class EpochSeed(L.Callback):
    """Seeds torch before the first step of each training epoch from (``seed``, epoch, process).

    Each of several processes drops other words; the zero of the first changes nothing in what is drawn.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # not before: the loader draws a number too, in a resumed epoch earlier than in another
        if batch_idx > 0:
            return
        key = (self.seed, trainer.current_epoch, trainer.global_rank)
        (drawn,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn))
