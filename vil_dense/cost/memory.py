"""Measures memory in bytes: free memory of a device, the sum of live tensors, and what a process holds for them."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vil_dense.heap import mapped_from
from vil_dense.ops.operators import KERNELS

GIB = 2**30
"""Bytes of a gibibyte."""
PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
"""Folders in which Linux tells about memory: of the system and processes, and of containers and jobs."""
HEAP_FACTOR = 1.7
"""Ratio of the heap to the largest sum of live blocks in it, which do not fill its gaps. Measured on a CPU, see
configs/results/README.md; with all blocks mapped the ratio is 1.0. Assumed to hold on a GPU."""
CONVOLUTIONS = {torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default}
"""Operators that hold a copy of their largest tensor while they run, as oneDNN computes in a layout of its own.
Measured on a CPU for three networks, to 1 MiB; assumed to hold on a GPU."""


def free_memory(device: torch.device | str) -> int | None:
    """Returns the bytes that `device` still has for this process; None if the system does not report it.

    On a GPU what torch has taken and uses no more is free as well: the next tensors are put there. On a CPU it is the
    least of what the system and the container or job (a cgroup of version 2 with a limit) have left.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    try:
        lines = (PROC / "meminfo").read_text().splitlines() if kind == "cpu" else []
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min(found + _left_in_cgroups(), default=None) if found else None


def _left_in_cgroups() -> list[int]:
    """Returns the bytes left in each cgroup of this process that has a limit; files in its cache give way."""
    try:
        lines = (PROC / "self/cgroup").read_text().splitlines()
        path = next(line.removeprefix("0::") for line in lines if line.startswith("0::"))
    except (OSError, StopIteration):
        return []
    left = []
    for group in (CGROUPS / path.lstrip("/"), *(CGROUPS / path.lstrip("/")).parents):
        if not group.is_relative_to(CGROUPS):
            break
        try:
            limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
            statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except OSError:  # the root has no limit, and a container may not see the groups around it
            continue
        if limit != "max":
            left.append(max(0, int(limit) - int(used) + int(statistics.get("inactive_file", 0))))
    return left


class LiveMemory(TorchDispatchMode):
    """Counts live bytes of the storages made in the `with` block: `peak`, the largest sum, and `resident`.
    `resident` is what a process holds for them, with the copies of `CONVOLUTIONS`: blocks of the heap count
    `HEAP_FACTOR` times their own largest sum.

    Args:
        scale: ratio of the sizes of a larger step to those that are counted, which decides what is on the heap.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.resident = 0.0
        self._scale, self._heap, self._heap_peak = scale, 0, 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in KERNELS:
            with self:
                return KERNELS[func](*args)
        out = func(*args, **(kwargs or {}))
        known = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for x in tree_leaves(out):
            if not isinstance(x, torch.Tensor):
                continue
            storage = x.untyped_storage()
            if storage._cdata not in known and storage._cdata not in self._seen:
                self._count(storage)
        copied = max((x.nbytes for x in tree_leaves((args, out)) if isinstance(x, torch.Tensor)), default=0)
        self._measure(copied if func in CONVOLUTIONS else 0)
        return out

    def _measure(self, copied: int) -> None:
        """Updates the largest sums; `copied` are the bytes that the operator holds for itself."""
        on_heap = copied if self._is_small(copied) else 0
        self.peak = max(self.peak, self.live)
        self._heap_peak = max(self._heap_peak, self._heap + on_heap)
        mapped = self.live + copied - self._heap - on_heap
        self.resident = max(self.resident, mapped + HEAP_FACTOR * self._heap_peak)

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self._add(size, size)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._add(-size, size)

    def _add(self, change: int, size: int) -> None:
        self.live += change
        if self._is_small(size):
            self._heap += change

    def _is_small(self, size: int) -> bool:
        """Returns whether a block of `size` bytes is on the heap in the larger step."""
        return self._scale * size < mapped_from()
