"""What is wrong with the files of a data list, said before the first step: one sentence a case, which is named."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vil_dense.files import evenly
from vil_dense.medical.data.datalist import Case
from vil_dense.medical.io.nifti import Grid, check_same_grid, read_image, read_label

SHOWN = 5


class Loaded(NamedTuple):
    """A case as its files hold it: image (C, I, J, K) float32, label (I, J, K) or None, the image's grid."""

    image: np.ndarray
    label: np.ndarray | None
    grid: Grid


def load_case(case: Case, channels: int, labels: Collection[int]) -> Loaded:
    """Reads every file of a case.

    Args:
        channels: number of input channels.
        labels: values that a label may have.

    Raises:
        ValueError: a file that is missing or damaged, of another number of channels or on another grid, voxels that
            are not finite, labels that are no integers or unknown; in one sentence that names the case.
    """
    try:
        image, grid = read_image(case.images, channels)
        if case.label is None:
            return Loaded(image, None, grid)
        label, label_grid = read_label(case.label, labels)
        check_same_grid(grid, label_grid)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"case {case.name}: {error}") from None
    return Loaded(image, label, grid)


class Counts:
    """Voxels of each class in the cases that it is called with, and the cases that have the class."""

    def __init__(self, labels: Mapping[str, int]) -> None:
        self.labels, self.read = labels, 0
        self.voxels, self.cases = (np.zeros(max(labels.values()) + 1, np.int64) for _ in range(2))

    def __call__(self, case: Case, loaded: Loaded) -> None:
        self.read += 1
        if loaded.label is not None:
            counts = np.bincount(loaded.label.ravel(), minlength=len(self.voxels))
            self.voxels += counts
            self.cases += counts > 0

    def table(self, title: str) -> str:
        """`title`, and a line for each class."""
        total = max(int(self.voxels.sum()), 1)
        rows = [
            f"{value:>5}  {name:<20} {100 * int(self.voxels[value]) / total:>12.3f} {int(self.cases[value]):>9}"
            for name, value in self.labels.items()
        ]
        return "\n".join([title, f"{'id':>5}  {'class':<20} {'% of voxels':>12} {'cases':>9}", *rows])

    def absent(self) -> list[str]:
        """Classes without a voxel."""
        return [name for name, value in self.labels.items() if not self.voxels[value]]


def check_cases(
    cases: Sequence[Case],
    channels: int,
    labels: Collection[int],
    report: Callable[[int, int], None] | None = None,
    each: Callable[[Case, Loaded], None] | None = None,
    seconds: float = math.inf,
) -> None:
    """Reads every file of `cases` once, or as many as the time allows, one at least; all must be there in any case.

    Args:
        report: called with the number of cases done and of all.
        each: called with every sound case.
        seconds: after which no more cases are read; those that were are spread evenly.

    Raises:
        ValueError: the faults of the first cases, a sentence each, and how many cases have one.
    """
    faults, end = [], time.monotonic() + seconds
    order = range(len(cases)) if seconds == math.inf else evenly(len(cases))
    for done, case in enumerate((cases[index] for index in order), 1):
        try:
            if done == 1 or time.monotonic() < end:
                loaded = load_case(case, channels, labels)
                if each:
                    each(case, loaded)
            elif lost := [path for path in (*case.images, case.label) if path and not path.is_file()]:
                raise ValueError(f"case {case.name}: no volume at {lost[0]}")
        except ValueError as error:
            faults.append(str(error))
        if report:
            report(done, len(cases))
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(f"{len(faults)} of {len(cases)} cases cannot be used: {'; '.join(faults[:SHOWN])}{more}")
