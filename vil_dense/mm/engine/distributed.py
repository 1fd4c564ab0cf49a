"""Several processes: torchrun and Slurm on GPUs as in MMEngine, the same on CPUs; sharding of large models."""

import atexit
import datetime
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import all_reduce_dict, broadcast, init_dist, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch import distributed as torch_dist
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vil_dense.backbones import VisionLSTM

LAUNCHERS = {
    "pytorch": ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    "mpi": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
"""What each launcher says to a process: its number, how many there are, its number on this machine."""

STARTED_BY = dict(pytorch="torchrun --nproc-per-node N", slurm="srun --ntasks N", mpi="mpirun -n N")


def start_processes(launcher: str, dist_cfg: dict) -> None:
    """Joins the processes that `launcher` started: NCCL and one GPU each as in MMEngine, gloo where there is no GPU.

    MMEngine takes a GPU for granted (`torch.cuda.set_device`); on CPUs torch is started without it. Where Slurm shows
    this process one GPU only, as with `--gpus-per-task=1`, that one is its own.

    Raises:
        ValueError: this process was not started by the launcher, or its machine has too few GPUs.
    """
    missing = [name for name in LAUNCHERS[launcher] if name not in os.environ]
    if missing:
        raise ValueError(
            f"--launcher {launcher} is for processes started by `{STARTED_BY[launcher]} tools/train.py ...`, "
            f"and {missing[0]} is not set"
        )
    rank, world_size, local_rank = (os.environ[name] for name in LAUNCHERS[launcher])
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if launcher == "slurm" and gpus == 1:
        local_rank = os.environ["SLURM_LOCALID"] = "0"  # by which MMEngine chooses the GPU
    # MMEngine's DDP takes its GPU from LOCAL_RANK, which MMEngine does not set for mpi.
    os.environ.update(RANK=rank, WORLD_SIZE=world_size, LOCAL_RANK=local_rank)
    if gpus:
        if int(local_rank) >= gpus:
            raise ValueError(
                f"each process needs a GPU of its own: process {int(local_rank) + 1} of this machine found {gpus}"
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
    """At the end of a run: the processes wait for each other and part.

    One that leaves earlier, while the first still writes its report, may be aborted by torch, and the launcher then
    ends the first one, too.
    """
    if torch_dist.is_initialized():
        torch_dist.barrier()
        torch_dist.destroy_process_group()


@contextmanager
def leaving() -> Iterator[None]:
    """Around a whole command: one of several processes leaves with its exit code, whatever its threads still do.

    A thread of gloo that lets go of a tensor while the interpreter ends aborts the process, and the launcher then says
    that the run has failed. So the interpreter is not ended; what is registered to run at exit runs.
    """
    code = 0
    try:
        yield
    except SystemExit as end:
        if not _several() or not isinstance(end.code, int):
            raise
        code = end.code
    if _several():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _several() -> bool:
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def settle_processes(cfg: Config, world_size: int, cuda: bool) -> str:
    """For several processes: a DDP that runs on CPUs too, different random draws in each, the mean loss in the log.

    Where no `StepSeedHook` keys the draws, each process draws from seed + its number (MMEngine gives all the same draws
    in their networks); `randomness.diff_rank_seed=False` keeps the order of the data that of a single process.
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
        cfg.setdefault("randomness", {}).setdefault("diff_rank_seed", True)
    cfg.custom_hooks = [*hooks, dict(type="MeanLossHook")]
    batch_size = cfg.train_dataloader.batch_size
    return f"processes: {world_size} x {batch_size} a step, by {'NCCL' if cuda else 'gloo'}; losses are their mean"


@HOOKS.register_module()
class MeanLossHook(Hook):
    """The mean of the processes' losses for the log, where MMEngine would log those of the first process.

    It is the loss that DDP descends. With `avg_non_ignore=True` each process divides by its own number of labelled
    pixels, so where these differ it is not the mean over all labelled pixels, as on one GPU.
    """

    priority = "HIGHEST"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        if outputs:
            means = {name: value.detach().clone() for name, value in outputs.items() if torch.is_tensor(value)}
            all_reduce_dict(means, "mean")
            outputs.update(means)


def shard(model: nn.Module) -> nn.Module:
    """`fully_shard` (torch) of each block of the model's `VisionLSTM`s and of the rest, in place.

    State dicts are whole again, in the memory of the first process's CPU: a collective, so all processes ask for them.
    The others get tensors on `meta`, of the whole shapes and without numbers. Loading takes whole ones.
    """
    for value in model.state_dict().values():
        broadcast(value)
    for network in [module for module in model.modules() if isinstance(module, VisionLSTM)]:
        for block in network.blocks:
            fully_shard(block)
    fully_shard(model)
    here, whole = (sum(size(p) for p in model.parameters()) for size in (_here, Tensor.numel))
    print_log(f"sharded: {here:,} of {whole:,} parameters in this process", "current")
    model.register_state_dict_post_hook(lambda module, state, prefix, metadata: state.update(_whole(state)))
    model.register_load_state_dict_pre_hook(lambda module, state, *_: state.update(_sharded(state, module)))
    return model


def _here(parameter: Tensor) -> int:
    return parameter.to_local().numel() if isinstance(parameter, DTensor) else parameter.numel()


def _whole(state: dict) -> dict:
    return {key: _whole_one(value) for key, value in state.items()}


def _whole_one(value: object) -> object:
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.cpu() if is_main_process() else torch.empty_like(whole, device="meta")


def _sharded(state: dict, module: nn.Module) -> dict:
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {key: _like(value, own[key]) for key, value in state.items() if key in own}


def _like(value: Tensor, pattern: Tensor) -> Tensor:
    """A whole tensor, cut as `pattern` is."""
    if not isinstance(pattern, DTensor) or isinstance(value, DTensor) or value.shape != pattern.shape:
        return value
    return distribute_tensor(value.to(pattern.device), pattern.device_mesh, pattern.placements)


class WholeWeightsHook(Hook):
    """While they evaluate, all processes have the weights of a sharded model whole.

    Else each call of a block would gather its weights from all processes, and these wait for each other in vain where
    one has more pictures or windows than another.
    """

    def before_val(self, runner: Runner) -> None:
        for unit in _units(runner.model):
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()

    def after_val(self, runner: Runner) -> None:
        units = _units(runner.model)
        for unit in units:
            # The outermost one is needed again at once, as the backward pass begins, so torch keeps it.
            unit.set_reshard_after_forward(unit is not units[0], recurse=False)
            unit.reshard()

    before_test, after_test = before_val, after_val


def _units(model: nn.Module) -> list[FSDPModule]:
    """What is sharded and gathered together, the outermost first."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


@RUNNERS.register_module()
class ShardedRunner(Runner):
    """`runner_type="ShardedRunner"`: weights, gradients and optimizer states are spread over the processes.

    For models whose weights and optimizer states fill a GPU; the weights alone must fit, as they are whole in an
    evaluation. Checkpoints are whole, as those of any other run, and resume with any number of processes. EMA weights
    are not kept.
    """

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        if not self.distributed:
            raise ValueError(
                "ShardedRunner spreads a model over several processes: use torchrun and --launcher pytorch"
            )
        if not hasattr(FSDPModule, "set_reshard_after_forward"):
            raise ValueError(f"torch {torch.__version__} has no FSDPModule.set_reshard_after_forward: take a newer one")
        if hasattr(model, "init_weights"):
            model.init_weights()
        return shard(model.to(get_device()))

    def _init_model_weights(self) -> None:
        """Done before the model was sharded."""

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        super().register_hooks(default_hooks, custom_hooks)
        self.register_hook(WholeWeightsHook())

    def build_optim_wrapper(self, optim_wrapper: dict | OptimWrapper) -> OptimWrapper:
        if isinstance(optim_wrapper, OptimWrapper):
            return optim_wrapper
        wrapper = super().build_optim_wrapper(optim_wrapper)
        optimizer = wrapper.optimizer
        optimizer.register_state_dict_post_hook(
            lambda _, state: _map_states(state, lambda value, index: _whole_one(value))
        )
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        optimizer.register_load_state_dict_pre_hook(
            lambda _, state: _map_states(state, lambda value, index: _like(value, parameters[index]))
        )
        return wrapper

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str | Callable = "cpu",
    ) -> None:
        """As MMEngine's; what the file holds goes to a GPU tensor by tensor, as it is cut, and not as a whole."""
        super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        *args,
        **kwargs,
    ) -> None:
        if self.rank:  # the first process writes; the others take part in putting the tensors together
            self.model.state_dict()
            if save_optimizer:
                self.optim_wrapper.state_dict()
        super().save_checkpoint(out_dir, filename, file_client_args, save_optimizer, *args, **kwargs)


def _map_states(state: dict, change: Callable[[Tensor, int], object]) -> dict:
    """An optimizer's state dict with `change(value, index of the parameter)` for each of its tensors."""
    states = {
        index: {name: change(value, index) if torch.is_tensor(value) else value for name, value in values.items()}
        for index, values in state["state"].items()
    }
    return {**state, "state": states}
