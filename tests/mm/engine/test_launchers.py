"""Starts processes from what launchers set in the environment."""

import os
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from refusals import raises_one_line
from run_torchrun import NEEDS_GLOO

from vil_dense.mm.engine.distributed import LAUNCHERS, resolve_processes, start_processes

pytestmark = NEEDS_GLOO


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Removes launchers' variables and the GPU, and leaves no process group afterwards."""
    for name in [*(name for names in LAUNCHERS.values() for name in names), "MASTER_ADDR", "MASTER_PORT"]:
        monkeypatch.setenv(name, "")  # so that what a test leaves there goes with it
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield monkeypatch
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("env_cfg", [dict(dist_cfg=dict(backend="nccl", timeout=60)), None])
def test_slurm_without_gpus_starts_gloo_at_the_first_host(
    env_cfg: dict | None, bare: pytest.MonkeyPatch, tmp_path: Path
):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$1 $2 $3" = "show hostnames here[1-2]" ] && printf "127.0.0.1\\nhere2\\n"\n')
    scontrol.chmod(0o755)
    bare.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    slurm = dict(SLURM_PROCID="0", SLURM_NTASKS="1", SLURM_LOCALID="0", SLURM_NODELIST="here[1-2]")
    for name, value in {**slurm, "MASTER_PORT": str(free_port())}.items():
        bare.setenv(name, value)
    start_processes("slurm", env_cfg)
    assert torch.distributed.get_backend() == "gloo" and torch.distributed.get_world_size() == 1
    assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")] == ["0", "1", "0"]
    assert os.environ["MASTER_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("launcher", "names"),
    [
        ("pytorch", ("torchrun --nproc-per-node N tools/train.py", "RANK")),
        ("slurm", ("srun --ntasks N tools/train.py", "SLURM_PROCID")),
        ("mpi", ("mpirun -n N tools/train.py", "OMPI_COMM_WORLD_RANK")),
    ],
)
def test_a_process_of_its_own_is_refused(launcher: str, names: tuple[str, ...], bare: pytest.MonkeyPatch):
    with raises_one_line(ValueError, f"--launcher {launcher}", *names):
        start_processes(launcher, {})


def test_more_processes_than_gpus_are_refused(bare: pytest.MonkeyPatch):
    for name, value in zip(LAUNCHERS["pytorch"], ("2", "3", "2"), strict=True):
        bare.setenv(name, value)
    bare.setattr(torch.cuda, "is_available", lambda: True)
    bare.setattr(torch.cuda, "device_count", lambda: 2)
    with raises_one_line(ValueError, "process 3", "found 2"):
        start_processes("pytorch", {})


@pytest.mark.parametrize(
    ("launcher", "number", "gpus", "chosen"),
    [
        ("slurm", "3", 1, 0),  # srun --gpus-per-task=1 shows each process its own
        ("slurm", "3", 8, 3),
        ("mpi", "3", 8, 3),
    ],
)
def test_each_process_has_its_gpu_under_slurm_and_mpi(
    launcher: str, number: str, gpus: int, chosen: int, bare: pytest.MonkeyPatch
):
    """Sets LOCAL_RANK, from which MMEngine's DDP takes it, to 0 before, as a tool does."""
    variables = dict(zip(LAUNCHERS[launcher], ("0", "1", number), strict=True), LOCAL_RANK="0")
    places = dict(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()), SLURM_NODELIST="here")
    for name, value in {**variables, **places}.items():
        bare.setenv(name, value)
    taken = []
    bare.setattr(torch.cuda, "is_available", lambda: True)
    bare.setattr(torch.cuda, "device_count", lambda: gpus)
    bare.setattr(torch.cuda, "set_device", taken.append)
    bare.setattr(torch.multiprocessing, "set_start_method", lambda method: None)
    start_processes(launcher, dict(dist_cfg=dict(backend="gloo", timeout=60)))
    assert taken == [chosen] and os.environ["LOCAL_RANK"] == str(chosen)


def resolved(world_size: int, cuda: bool, **entries) -> Config:
    cfg = Config(dict(train_dataloader=dict(batch_size=4), randomness=dict(seed=0)) | entries)
    resolve_processes(cfg, world_size, cuda)
    return cfg


def test_what_several_processes_need():
    assert resolved(1, False).to_dict() == dict(train_dataloader=dict(batch_size=4), randomness=dict(seed=0))
    cpu, gpu = resolved(2, False), resolved(8, True)
    assert cpu.model_wrapper_cfg.device_ids is None and "model_wrapper_cfg" not in gpu
    for cfg in (cpu, gpu):
        assert cfg.custom_hooks[-1].type == "MeanLossHook" and cfg.randomness.diff_rank_seed
    assert "diff_rank_seed" not in resolved(2, False, custom_hooks=[dict(type="StepSeedHook")]).randomness
    assert resolved(2, False, randomness=None).randomness == dict(seed=None, diff_rank_seed=True)
    own = dict(type="MMDistributedDataParallel", device_ids=None, find_unused_parameters=True)
    assert resolved(2, False, model_wrapper_cfg=own).model_wrapper_cfg == own
