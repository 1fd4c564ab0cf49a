"""Reads, checks and caches cases; `read_case` is the only reader of training, validation, prediction and bundle."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset

from vil_dense.cost.memory import GIB
from vil_dense.files import sample_evenly
from vil_dense.medical.data.plan_schema import Plan
from vil_dense.medical.data.preprocess import PlanGrid
from vil_dense.medical.datalists.datalist import Case
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.io.volumes import check_same_grid, read_grid, read_image, read_label
from vil_dense.medical.label_map import LabelMap

SHOWN = 5


class LoadedCase(NamedTuple):
    """Stores a case on the grid of its files: image (C, I, J, K) float32, label (I, J, K) or None, and the grid."""

    image: np.ndarray
    label: np.ndarray | None
    grid: Grid


def read_case(case: Case, channels: int, labels: Collection[int] | None, nan: float | None = None) -> LoadedCase:
    """Reads and checks every file of a case.

    Args:
        channels: number of input channels.
        labels: values that a label may have; with None the label is not read.
        nan: value that takes the place of NaN in images, the plan's `nan_background`; None refuses NaN.

    Raises:
        ValueError: a file is missing or damaged, or has another number of channels or another grid; voxels are not
            finite; labels are not integers or not known. The message names the case.
    """
    try:
        image, grid = read_image(case.images, channels, frame=case.frame, nan=nan)
        if case.label is None or labels is None:
            return LoadedCase(image, None, grid)
        label, label_grid = read_label(case.label, labels)
        check_same_grid(grid, label_grid)
        if label_grid.warning not in ("", grid.warning):
            words = f"{label_grid.path}: {label_grid.warning}"
            grid = replace(grid, warning="; ".join(filter(None, (grid.warning, words))))
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"case {case.name}: {error}") from None
    return LoadedCase(image, label, grid)


class Counts:
    """Counts the voxels of each class of a plan in the cases that it is called with, and the cases that have it."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        known, self.read = LabelMap.of(plan), 0
        self.labels = known.values if known.ignore is None else {**known.values, "(ignored)": (known.ignore,)}
        self.total = 0
        self.classes, self.length = len(known.values), max(known.file_values) + 1
        self.voxels, self.cases = (dict.fromkeys(self.labels, 0) for _ in range(2))

    def __call__(self, case: Case, loaded: LoadedCase) -> None:
        self.read += 1
        if loaded.label is not None:
            counts = np.bincount(loaded.label.ravel(), minlength=self.length)
            for name, values in self.labels.items():
                found = int(counts[list(values)].sum())
                self.voxels[name] += found
                self.cases[name] += found > 0
            self.total += loaded.label.size

    def table(self, title: str) -> str:
        """Returns `title` and a line for each class."""
        percent = 100 / max(self.total, 1)
        rows = [
            f"{','.join(map(str, values)):>5}  {name:<20} {percent * self.voxels[name]:>12.3f} {self.cases[name]:>9}"
            for name, values in self.labels.items()
        ]
        return "\n".join([title, f"{'id':>5}  {'class':<20} {'% of voxels':>12} {'cases':>9}", *rows])

    def absent(self) -> list[str]:
        """Returns the classes without a voxel."""
        return [name for name in list(self.labels)[: self.classes] if not self.voxels[name]]


def check_cases(
    cases: Sequence[Case],
    channels: int,
    labels: Collection[int],
    report: Callable[[int, int], None] | None = None,
    each: Callable[[Case, LoadedCase], None] | None = None,
    seconds: float = math.inf,
    nan: float | None = None,
) -> list[str]:
    """Checks that all files exist and reads those of at least one case, of all if the time allows.

    Returns a warning for each file whose header contradicts itself.

    Args:
        report: called with the number of finished cases and of all cases.
        each: called with every case that was read without a fault.
        seconds: time limit of reading; the cases that were read are spread evenly.
        nan: see `read_case`.

    Raises:
        ValueError: cases cannot be used; describes the first ones and gives their number.
    """
    faults, warnings, end = [], [], time.monotonic() + seconds
    order = range(len(cases)) if seconds == math.inf else sample_evenly(len(cases))
    for done, case in enumerate((cases[index] for index in order), 1):
        try:
            if done == 1 or time.monotonic() < end:
                loaded = read_case(case, channels, labels, nan)
                if loaded.grid.warning:
                    warnings.append(f"{loaded.grid.path}: {loaded.grid.warning}")
                if each:
                    each(case, loaded)
            elif missing := [path for path in (*case.images, case.label) if path and not path.exists()]:
                raise ValueError(f"case {case.name}: no volume at {missing[0]}")
        except ValueError as error:
            faults.append(str(error))
        if report:
            report(done, len(cases))
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(f"{len(faults)} of {len(cases)} cases cannot be used: {'; '.join(faults[:SHOWN])}{more}")
    return warnings


def loaded_bytes(case: Case, plan: Plan) -> int:
    """Returns the bytes of a case as `read_case` reads it, from its header: float32 channels, a uint8 label."""
    return math.prod(read_grid(case.images[0]).shape) * (4 * len(plan["channels"]) + 1)


def preprocessed_bytes(case: Case, plan: Plan) -> int:
    """Returns the bytes of a case after `transforms.training_cases`, from its header."""
    file = read_grid(case.images[0])
    shape = PlanGrid.over(file.shape, file.affine, plan).shape
    masks = 2 if "first_stage" in plan else 1  # uint8 each
    return math.prod(map(max, shape, plan["patch_vox"])) * (4 * len(plan["channels"]) + masks)


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
