"""What each command sets up before it computes: seeds, denormals, and silence where others would chatter."""

import logging
import os
import warnings

import torch
from lightning.pytorch import seed_everything

# what others say on every run, and why nobody needs to read it
_CHATTER = {
    # the reviews are in memory, and worker processes would only copy them
    r"The '.*dataloader' does not have many workers": "lightning.pytorch",
    # each run has a folder of its own, and a resumed one writes where it wrote before
    r"Checkpoint directory .* exists and is not empty": "lightning.pytorch",
    # smaller runs than log_every_n_steps are meant so
    r"The number of training batches .* is smaller than the logging interval": "lightning.pytorch",
    # the accelerator is chosen in the configuration
    r"GPU available but not used": "lightning.pytorch",
}


def start(seed: int) -> None:
    """Seed everything, silence the known chatter, and treat denormal floats as zero on a CPU.

    Gradients that vanish through hundreds of steps become denormal, and x86 processors then run several times
    slower. The mode is inherited by threads, so it has to be set before torch starts any.
    """
    torch.set_flush_denormal(True)
    for message in _CHATTER:
        warnings.filterwarnings("ignore", message=message)
    # hints about products and hardware come as log messages of this level
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    os.environ.setdefault("PL_DISABLE_FORK", "1")
    seed_everything(seed, workers=True, verbose=False)
