"""Prepares DICOM objects that refer to the slices of their image: headers, and masks on the slices."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vil_dense.medical.io.geometry import by
from vil_dense.medical.io.grid import Grid, move_slices_back

if TYPE_CHECKING:
    from pydicom import Dataset

MADE_BY: dict[str, Any] = dict(manufacturer="vil_dense", manufacturer_model_name="vil_dense", instance_number=1)
"""Names the equipment, in the arguments of highdicom."""


def check_dicom(grid: Grid) -> None:
    """Checks that the image of a mask is DICOM, and that highdicom is installed.

    Raises:
        ValueError: one of them is missing.
    """
    if not grid.files:
        raise ValueError(f"{grid.path} is not a DICOM series, to whose slices a mask in DICOM has to refer")
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ValueError(f"masks in DICOM need highdicom: pip install 'vil_dense[formats]' ({error})") from None


def mask_on_slices(path: Path, mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns a mask (I, J, K) of the image on the slices of its files, those of a tilted gantry in their places.

    Raises:
        ValueError: see `check_dicom`; or the mask has another shape.
    """
    check_dicom(grid)
    if mask.shape != grid.shape:
        raise ValueError(f"{path}: a mask of {by(mask.shape)} voxels does not fit {grid.path}, {by(grid.shape)}")
    return move_slices_back(mask, grid)


def source_headers(grid: Grid) -> "list[Dataset]":
    """Reads the headers of the files of a series without pixels; each file once, in the order of its first slice."""
    from pydicom import dcmread

    return [dcmread(file, stop_before_pixels=True) for file in dict.fromkeys(grid.files)]


@contextmanager
def header_errors(grid: Grid, what: str) -> Iterator[None]:
    """Turns errors about missing or wrong elements of the headers of others into a sentence, and hides warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values in the headers of others, such as names that are too long
        try:
            yield
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{grid.path}: no {what} can be made with these headers ({type(error).__name__}: {error})"
            ) from None
