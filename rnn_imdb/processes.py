"""Several processes that train together: who starts them, and who speaks for all."""

import os
from typing import TYPE_CHECKING

from rnn_imdb.errors import UserError

if TYPE_CHECKING:
    import lightning.pytorch as L
    from lightning.fabric.plugins import ClusterEnvironment

# where torchrun, Lightning and Slurm say which of its processes this is
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def is_leader() -> bool:
    """Whether this is the only process of a training, or the first of several."""
    return next((os.environ[name] for name in _RANKS if name in os.environ), "0") == "0"


def slurm() -> "list[ClusterEnvironment]":
    """Lightning's Slurm, where ``srun`` started several tasks; elsewhere Lightning starts what there is to start."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    several = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and not TorchElasticEnvironment.detect()
    # it would requeue the job, with a checkpoint that every later fit and test takes for its own
    return [SLURMEnvironment(auto_requeue=False)] if several else []


def check_processes(trainer: "L.Trainer") -> None:
    """Refuse processes that are not as many as the configuration says, or whose results would stay with them.

    Raises:
        UserError: they are.
    """
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise UserError(
            f"several processes must be started by a command, got trainer.devices={trainer.num_devices} in a "
            "notebook: give trainer.devices=1, or use python -m rnn_imdb.train trainer=ddp",
            exit_code=2,
        )
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, (SLURMEnvironment, TorchElasticEnvironment)):
        return
    started = environment.world_size()
    if started != trainer.num_devices * trainer.num_nodes:
        raise UserError(
            f"srun or torchrun must start a process for each device, got {started} processes and trainer.devices="
            f"{trainer.num_devices}: give trainer=ddp trainer.devices={started}, or start one process",
            exit_code=2,
        )
