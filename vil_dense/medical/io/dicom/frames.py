"""Reads enhanced DICOM, where one file holds all slices: a header for each frame, and its voxels.

Positions, spacings and rescaling are in functional groups (DICOM PS3.3, C.7.6.16), shared by all frames or of each.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vil_dense.medical.io.grid import first_line

if TYPE_CHECKING:
    from pydicom import Dataset

GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
MACROS = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
}
"""Elements that are read, by the group in which they are."""
COPIED = ("Rows", "Columns", "SamplesPerPixel")


def frame_headers(header: "Dataset") -> "list[Dataset]":
    """Returns a header for each frame of enhanced DICOM, with the elements that a file of one slice has.

    Raises:
        ValueError: there is not a functional group for each frame.
    """
    from pydicom import Dataset

    own, shared = header.get(GROUPS[0]) or [], (header.get(GROUPS[1]) or [Dataset()])[0]
    if len(own) != int(header.get("NumberOfFrames") or 1):
        raise ValueError(f"it has {header.get('NumberOfFrames')} frames, and places of {len(own)}")
    headers = []
    for group in own:
        frame = Dataset()
        for key in (key for key in COPIED if key in header):
            frame.add(header[key])
        for macro, keys in MACROS.items():
            item = (group.get(macro) or shared.get(macro) or [Dataset()])[0]
            for key in (key for key in keys if key in item):
                frame.add(item[key])
        headers.append(frame)
    return headers


def read_frames(path: Path, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    """Yields frames of a file by their numbers, which begin with 1: (columns, rows) float32, each rescaled by its own.

    Raises:
        ValueError: the file is damaged, or its compression cannot be read.
    """
    from pydicom import dcmread
    from pydicom.pixels.utils import iter_pixels

    try:
        headers = frame_headers(dcmread(path, stop_before_pixels=True, specific_tags=[*GROUPS, "NumberOfFrames"]))
        frames = iter_pixels(path, indices=[number - 1 for number in numbers], raw=True)
        for number, frame in zip(numbers, frames, strict=True):
            header = headers[number - 1]
            slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
            yield (frame.T * slope + intercept).astype(np.float32)
    except MemoryError:
        raise
    except Exception as error:  # pydicom and its decoders raise errors of many types for damaged files
        raise ValueError(
            f"{path} is damaged, or its compression cannot be read ({first_line(error)}); dcm2niix converts it"
        ) from None
