"""What is wrong with the files of a data list, said before the first step: one sentence a case, which is named."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from vil_dense.medical.datalist import Case
from vil_dense.medical.nifti import Grid, check_same_grid, read_image, read_label

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


def check_cases(
    cases: Sequence[Case],
    channels: int,
    labels: Collection[int],
    report: Callable[[int, int], None] | None = None,
    each: Callable[[Case, Loaded], None] | None = None,
) -> None:
    """Reads every file of `cases` once.

    Args:
        report: called with the number of cases done and of all.
        each: called with every sound case.

    Raises:
        ValueError: the faults of the first cases, a sentence each, and how many cases have one.
    """
    faults = []
    for done, case in enumerate(cases, 1):
        try:
            loaded = load_case(case, channels, labels)
        except ValueError as error:
            faults.append(str(error))
        else:
            if each:
                each(case, loaded)
        if report:
            report(done, len(cases))
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(f"{len(faults)} of {len(cases)} cases cannot be used: {'; '.join(faults[:SHOWN])}{more}")
