"""Preprocessed cases in memory, as many as a cap allows."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from math import ceil
from typing import Any

import nibabel as nib
import numpy as np
from torch.utils.data import Dataset

from vil_dense.backbones.memory import GIB
from vil_dense.medical.data.datalist import Case
from vil_dense.medical.data.transforms import Plan, axes_in


def preprocessed_bytes(case: Case, plan: Plan) -> int:
    """Bytes of a case after `transforms.training_cases`, from its header: float32 channels and a uint8 label."""
    header = nib.load(case.images[0])
    lengths_mm = np.asarray(header.shape[:3]) * nib.affines.voxel_sizes(header.affine)
    voxels = 1
    for place, axis in enumerate(axes_in(plan["orientation"], header.affine)):
        voxels *= max(ceil(lengths_mm[axis] / plan["spacing_mm"][place]), plan["patch_vox"][place])
    return voxels * (4 * len(plan["channels"]) + 1)


class Cases(Dataset):
    """Cases through `transform`, the first of them kept in memory, up to `cap_gib` by `preprocessed_bytes`.

    What is kept is made at once, so that worker processes share it; an item is a copy.

    Args:
        report: called with the number of cases made and of those to make.
        say: is told how much memory that is, before it is taken.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        plan: Plan,
        transform: Callable[..., Any],
        cap_gib: float,
        report: Callable[[int, int], None],
        say: Callable[[str], None],
    ) -> None:
        self.sources = [case.as_dict() for case in cases]
        self.transform = transform
        sizes = np.cumsum([preprocessed_bytes(case, plan) for case in cases]) / GIB
        kept = int(np.searchsorted(sizes, cap_gib, side="right"))
        held = sizes[kept - 1] if kept else 0.0
        say(f"cache: {kept} of {len(cases)} cases, about {held:.2f} of {sizes[-1]:.2f} GiB (cap {cap_gib:g} GiB)")
        self.kept = []
        for source in self.sources[:kept]:
            self.kept.append(transform(source))
            report(len(self.kept), kept)

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return deepcopy(self.kept[index]) if index < len(self.kept) else self.transform(self.sources[index])
