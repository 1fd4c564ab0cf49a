"""Tests the memory of the network: as many bytes for each token at any size, and in training no more than a ViT's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from live_memory import LiveMemory
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vil_dense.backbones import VisionLSTM, variant
from vil_dense.cost import memory
from vil_dense.cost.memory import free_memory
from vil_dense.ops import mlstm
from vil_dense.ops.operators import KERNELS


def peak_bytes(model: VisionLSTM, *size: int, train: bool = False) -> int:
    x = torch.randn(1, model.patch_embed.proj.in_channels, *size)
    with LiveMemory() as memory, torch.set_grad_enabled(train):
        y = model.train(train)(x)
        if train:
            y.square().mean().backward()
    model.zero_grad()
    return memory.peak


def bytes_of_a_token(dim: int, sizes: list[tuple[int, ...]], train: bool, recompute: bool) -> list[float]:
    """Returns the peak bytes of a token at each of the `sizes`, which are in tokens."""
    found = []
    for size in sizes:
        model = VisionLSTM(dim=dim, depth=2, patch_size=4, in_channels=1, grid=(8,) * len(size), recompute=recompute)
        found.append(peak_bytes(model, *(4 * axis for axis in size), train=train) / torch.Size(size).numel())
    return found


@pytest.mark.parametrize(
    ("dim", "train", "recompute", "sides"),
    [
        pytest.param(64, True, True, (48, 96), id="9k tokens in training"),
        pytest.param(64, True, False, (48, 96), id="9k tokens in training, all kept"),
        pytest.param(192, True, True, (64, 256), id="65k tokens in training", marks=pytest.mark.slow),
        pytest.param(192, False, True, (64, 512), id="262k tokens forward", marks=pytest.mark.slow),
    ],
)
def test_memory_is_linear(dim: int, train: bool, recompute: bool, sides: tuple[int, int]) -> None:
    """Tests pictures of two sizes and a volume of 96 voxels a side: all take the same bytes of a token."""
    few, *others = bytes_of_a_token(dim, [*((side, side) for side in sides), (24, 24, 24)], train, recompute)
    torch.testing.assert_close(others, [few] * 2, rtol=0.15, atol=0)


class Written(TorchDispatchMode):
    """Counts the numbers that operations write; views write none."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in KERNELS:
            with self:
                return KERNELS[function](*args)
        made = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.numbers += sum(x.numel() for x in tree_leaves(made) if isinstance(x, torch.Tensor))
        return made


def written_for_a_token(function: Callable[..., torch.Tensor], *inputs: torch.Tensor, tokens: int) -> float:
    with Written() as written:
        function(*(x.requires_grad_() for x in inputs)).square().sum().backward()
    return written.numbers / tokens


def test_work_in_training_is_linear() -> None:
    """Tests the operator and the network, over many segments, at 4096 and at 16,384 tokens."""
    model, found = VisionLSTM(dim=32, depth=1, patch_size=4, in_channels=1), []
    for side in (64, 128):
        S = side**2
        inputs = *torch.randn(3, 1, 1, S, 8), *torch.randn(2, 1, 1, S)
        of_operator = written_for_a_token(partial(mlstm, backend="chunkwise"), *inputs, tokens=S)
        of_network = written_for_a_token(model.train(), torch.randn(1, 1, 4 * side, 4 * side), tokens=S)
        found.append((of_operator, of_network))
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0)


def test_the_count_notices_a_square() -> None:
    model = VisionLSTM(dim=32, depth=2, patch_size=4, in_channels=1, backend="parallel")
    few, many = (peak_bytes(model, size, size) / size**2 for size in (64, 128))
    assert many > 2 * few


@pytest.mark.slow
@pytest.mark.parametrize(("with_cp", "share"), [(False, 1.0), (True, 0.5)], ids=["kept", "recomputed"])
def test_training_takes_no_more_than_a_vit(with_cp: bool, share: float) -> None:
    ours = VisionLSTM(**{**variant("vil2-tiny"), "pooling": None}, with_cp=with_cp)
    vit = VisionLSTM(**{**variant("deit3-tiny"), "pooling": None})
    assert peak_bytes(ours, 1024, 1024, train=True) <= share * peak_bytes(vit, 1024, 1024, train=True)


def test_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that memory on a GPU which torch holds without using it counts as free."""
    for name, value in dict(mem_get_info=(5, 90), memory_reserved=40, memory_allocated=10).items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_memory("cuda") == free_memory(torch.device("cuda", 0)) == 35
    assert free_memory("meta") is None and (free_memory("cpu") or 2**30) > 2**20


@pytest.mark.parametrize(
    ("groups", "free"),
    [
        ({}, 8 << 20),  # no cgroup is told
        ({"job": ("max", 5, 0)}, 8 << 20),
        ({"job": (3000, 2000, 0)}, 1000),
        ({"job": (3000, 2000, 500)}, 1500),
        ({"job": (3000, 4000, 0)}, 0),
        ({"job": (1 << 40, 2000, 0)}, 8 << 20),
        ({"": (700, 100, 0), "job": (3000, 2000, 0), "job/step": ("max", 5, 0)}, 600),  # the narrowest around it
    ],
)
def test_a_limit_of_a_container_or_job_bounds_the_free_memory(
    groups: dict[str, tuple[int | str, int, int]], free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writes what Linux tells of the system, with 8 MiB left, and of the cgroups of the process (limit, use, files)."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8192 kB\n")
    for name, (limit, used, files) in groups.items():
        group = tmp_path / "cgroup" / name
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 7\ninactive_file {files}\n")
        (tmp_path / "proc/self/cgroup").write_text(f"4:memory:/other\n0::/{name}\n")
    assert free_memory("cpu") == free
