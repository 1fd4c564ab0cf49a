"""Starts kernels, or only counts what they would move: the byte budget is counted on the very code that launches."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple

import torch
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter, on the CPU."""

KERNELS = {
    "fold_maps": "fold",
    "unfold_maps": "fold",
    "convolve": "conv",
    "activation_gradients": "conv",
    "convolve_gradients": "conv",
    "gate_sums": "gates",
    "gate_gradients": "gates",
    "scan_states": "forward",
    "hidden_states": "forward",
    "output_gradients": "outputs",
    "scan_gradients": "backward",
    "norm_forward": "norm",
    "norm_gradients": "norm",
}
"""The module of each kernel. They are imported at their first launch: counting needs no Triton."""


class Launch(NamedTuple):
    """Names a kernel, and the bytes of the tensors that it reads and writes, each counted once."""

    kernel: str
    bytes: int


_counted: list[list[Launch]] = []


@contextmanager
def count_launches() -> Iterator[list[Launch]]:
    """Records kernels in the list that this yields, instead of starting them; fake tensors will do."""
    launches: list[Launch] = []
    _counted.append(launches)
    try:
        yield launches
    finally:
        _counted.pop()


def can_launch(x: Tensor) -> bool:
    """Returns whether kernels run on the device of `x`, or are only counted."""
    return bool(_counted) or x.is_cuda or (INTERPRETED and x.device.type == "cpu")


def require_gpu(x: Tensor) -> None:
    """Raises an error if kernels cannot run on `x`: triton or a GPU is missing."""
    if _counted:
        return
    import vil_dense.ops.gpu.kernels.tiles  # noqa: F401  raises an error that names the package if triton is missing

    if x.device.type == "cpu" and not INTERPRETED:
        raise ValueError(
            "the mLSTM backend 'triton' needs tensors on a GPU; on the CPU it runs with TRITON_INTERPRET=1 only"
        )


def launch(kernel: str, grid: Sequence[int], *args: Tensor | float | None, **options: Any) -> None:
    """Starts `kernel` of `KERNELS` with `grid` programs on the device of its tensors."""
    tensors = {id(x): x for x in args if isinstance(x, Tensor)}
    if _counted:
        _counted[-1].append(Launch(kernel, sum(x.numel() * x.element_size() for x in tensors.values())))
        return
    function = getattr(import_module(f"vil_dense.ops.gpu.kernels.{KERNELS[kernel]}"), kernel)
    with torch.cuda.device_of(next(iter(tensors.values()))):
        function[tuple(grid)](*args, **{"num_warps": 8, "num_stages": 2, "enable_fp_fusion": True, **options})
