"""Starts and ends distributed runs under torchrun, Slurm or MPI: on GPUs as MMEngine does, and also on CPUs."""

import atexit
import datetime
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_reduce_dict, init_dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import distributed as torch_dist

LAUNCHERS = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
"""Environment variables in which each launcher passes rank, world size and local rank."""

STARTED_BY = dict(pytorch="torchrun --nproc-per-node N", slurm="srun --ntasks N", mpi="mpirun -n N")


def start_processes(launcher: str, env_cfg: Mapping[str, Any] | None) -> None:
    """Joins the processes that `launcher` started: with NCCL and one GPU each as in MMEngine, with gloo on CPUs.

    MMEngine requires a GPU (`torch.cuda.set_device`), so on CPUs torch is initialised directly. If Slurm shows only one
    GPU to this process, as with `--gpus-per-task=1`, the process uses that one.

    Args:
        launcher: a key of `LAUNCHERS`.
        env_cfg: that of a config, whose `dist_cfg` goes to torch; a config may have none.

    Raises:
        ValueError: this process was not started by the launcher, or its machine has too few GPUs.
    """
    dist_cfg = (env_cfg or {}).get("dist_cfg") or {}
    missing = [name for name in LAUNCHERS[launcher] if name not in os.environ]
    if missing:
        raise ValueError(
            f"--launcher {launcher} is for processes started by `{STARTED_BY[launcher]} tools/train.py ...`, "
            f"and {missing[0]} is not set"
        )
    rank, world_size, local_rank = (os.environ[name] for name in LAUNCHERS[launcher])
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if launcher == "slurm" and gpus == 1:
        local_rank = os.environ["SLURM_LOCALID"] = "0"  # MMEngine chooses the GPU by it
    # MMEngine's DDP takes its GPU from LOCAL_RANK, which MMEngine does not set for mpi.
    os.environ.update(RANK=rank, WORLD_SIZE=world_size, LOCAL_RANK=local_rank)
    if gpus:
        if int(local_rank) >= gpus:
            raise ValueError(
                f"each process needs its own GPU: process {int(local_rank) + 1} of this machine found {gpus}"
            )
        init_dist(launcher, **dist_cfg)
        return
    if launcher == "slurm" and "MASTER_ADDR" not in os.environ:
        command = ["scontrol", "show", "hostnames", os.environ["SLURM_NODELIST"]]
        os.environ["MASTER_ADDR"] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[
            0
        ]
    os.environ.setdefault("MASTER_PORT", "29500")
    timeout = dist_cfg.get("timeout")
    torch_dist.init_process_group("gloo", timeout=timeout and datetime.timedelta(seconds=timeout))


def end_processes() -> None:
    """Waits at the end of a run for all processes and destroys the process group.

    Torch may abort a process that exits while the first one still writes its report, and the launcher would then end
    the first one, too.
    """
    if torch_dist.is_initialized():
        torch_dist.barrier()
        torch_dist.destroy_process_group()


@contextmanager
def clean_exit() -> Iterator[None]:
    """Ends a process of a distributed command with its own exit code, without waiting for its threads.

    If a gloo thread frees a tensor while the interpreter shuts down, the process aborts and the launcher reports a
    failed run. So the registered exit functions run, and the process ends without a shutdown of the interpreter.
    """
    code = 0
    try:
        yield
    except SystemExit as end:
        if not _is_distributed() or not isinstance(end.code, int):
            raise
        code = end.code
    if _is_distributed():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _is_distributed() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def resolve_processes(cfg: Config, world_size: int, cuda: bool) -> str:
    """Sets up a config for several processes: DDP also on CPUs, different random draws, the mean loss in the log.

    Without a `StepSeedHook` each process draws from seed + rank (with MMEngine's default, all networks draw the same
    numbers); `randomness.diff_rank_seed=False` keeps the data order of a single process.

    Returns:
        A line for the log, empty for one process.
    """
    if world_size == 1:
        return ""
    if not cuda and cfg.get("model_wrapper_cfg") is None:
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        )
    hooks = cfg.get("custom_hooks") or []
    if not any(hook["type"] == "StepSeedHook" for hook in hooks):
        cfg.randomness = {"seed": None, "diff_rank_seed": True, **(cfg.get("randomness") or {})}
    cfg.custom_hooks = [*hooks, dict(type="MeanLossHook")]
    batch_size = cfg.train_dataloader.batch_size
    return f"processes: {world_size} x {batch_size} a step, by {'NCCL' if cuda else 'gloo'}; losses are their mean"


@HOOKS.register_module()
class MeanLossHook(Hook):
    """Logs the mean loss of all processes, where MMEngine logs that of the first one.

    This is the loss that DDP minimises. With `avg_non_ignore=True` each process divides by its own number of labelled
    pixels; if these numbers differ, the result is not the mean over all labelled pixels as on one GPU.
    """

    priority = "HIGHEST"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        if outputs:
            means = {name: value.detach().clone() for name, value in outputs.items() if torch.is_tensor(value)}
            all_reduce_dict(means, "mean")
            outputs.update(means)
