"""Randomness that depends on (seed, epoch) alone, so that a resumed epoch draws the same numbers."""

import lightning.pytorch as L
import numpy as np
import torch


class EpochSeed(L.Callback):
    """Seeds torch at the start of each training epoch from (``seed``, epoch)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        (drawn,) = np.random.SeedSequence((self.seed, trainer.current_epoch)).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn))
