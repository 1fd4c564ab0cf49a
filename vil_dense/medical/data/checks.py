"""Checks the files of a data list before the first step: a sentence for each case that cannot be used."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from vil_dense.files import sample_evenly
from vil_dense.medical.data.reader import LoadedCase, read_case
from vil_dense.medical.datalists.datalist import Case
from vil_dense.medical.label_map import LabelMap

SHOWN = 5


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
        nan: see `reader.read_case`.

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
