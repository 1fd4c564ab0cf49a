"""Caches cases in memory up to a limit."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from vil_dense.backbones.memory import GIB
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.data.preprocess import PlanGrid
from vil_dense.medical.datalists.datalist import Case
from vil_dense.medical.io.volumes import read_grid


def loaded_bytes(case: Case, plan: Plan) -> int:
    """Returns the bytes of a case as `reader.read_case` reads it, from its header: float32 channels, a uint8 label."""
    return prod(read_grid(case.images[0]).shape) * (4 * len(plan["channels"]) + 1)


def preprocessed_bytes(case: Case, plan: Plan) -> int:
    """Returns the bytes of a case after `transforms.training_cases`, from its header."""
    file = read_grid(case.images[0])
    shape = PlanGrid.over(file.shape, file.affine, plan).shape
    masks = 2 if "first_stage" in plan else 1  # uint8 each
    return prod(map(max, shape, plan["patch_vox"])) * (4 * len(plan["channels"]) + masks)


class Cases(Dataset):
    """Transforms cases and caches the first of them in memory, up to a limit.

    The cache is filled at construction, so that worker processes share it; each item is a copy.

    Args:
        transform: receives the dictionary of a case, see `Case.as_dict`.
        sizes: bytes of each transformed case.
        cap_gib: largest sum of the sizes of cached cases.
        report: called with the number of cases cached so far and of all to be cached.
        log: called with a line on the expected memory, before the cache is filled.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        transform: Callable[[dict[str, Any]], Any],
        sizes: Sequence[int],
        cap_gib: float,
        report: Callable[[int, int], None],
        log: Callable[[str], None],
    ) -> None:
        self.sources = [case.as_dict() for case in cases]
        self.transform = transform
        total = np.cumsum(sizes) / GIB
        count = int(np.searchsorted(total, cap_gib, side="right"))
        used = total[count - 1] if count else 0.0
        scale, unit = (1, "GiB") if total[-1] >= 1 else (1024, "MiB")
        memory = f"about {scale * used:.2f} of {scale * total[-1]:.2f} {unit}"
        log(f"cache: {count} of {len(cases)} cases, {memory} (cap {cap_gib:g} GiB)")
        self.cached = []
        for source in self.sources[:count]:
            self.cached.append(transform(source))
            report(len(self.cached), count)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> Any:
        return deepcopy(self.cached[index]) if index < len(self.cached) else self.transform(self.sources[index])
