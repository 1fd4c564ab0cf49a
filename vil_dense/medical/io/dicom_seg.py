"""Writes masks as DICOM segmentations that refer to the slices of their image."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vil_dense import __version__
from vil_dense.files import write_whole
from vil_dense.medical.io.grid import Grid, by, move_slices_back
from vil_dense.medical.label_map import structures

if TYPE_CHECKING:
    import highdicom

SCHEME = "99VIL"
"""Coding scheme of structures; names that begin with 99 are private in DICOM."""


def check_dicom(grid: Grid) -> None:
    """Checks that the image of a mask is DICOM, and that highdicom is installed.

    Raises:
        ValueError: one of them is missing.
    """
    if not grid.files:
        raise ValueError(f"{grid.path} is not a DICOM series, to whose slices a DICOM segmentation has to refer")
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise ValueError(f"DICOM segmentations need highdicom: pip install 'vil_dense[formats]' ({error})") from None


def write_dicom_seg(path: Path, mask: np.ndarray, grid: Grid, labels: Mapping[str, Any]) -> None:
    """Writes a mask as a binary DICOM segmentation with one segment for each structure, also for an empty one.

    Segments are numbered from 1 in the order of the structures; their codes are of a private scheme, with the names of
    the labels. Slices without a structure are left out, as is usual.

    Args:
        mask: (I, J, K) integers on the grid of the image.
        grid: of a DICOM series.
        labels: value in the mask of each class by name, or the values of a region; 0 is the background.

    Raises:
        ValueError: see `check_dicom`; the mask has another shape or no structure, or the headers of the slices lack
            what a segmentation needs.
        OSError: it could not be written; no partial file is left.
    """
    check_dicom(grid)
    if mask.shape != grid.shape:
        raise ValueError(f"{path}: a mask of {by(mask.shape)} voxels does not fit {grid.path}, {by(grid.shape)}")
    import highdicom
    from pydicom import dcmread
    from pydicom.uid import generate_uid

    names = structures(labels)
    # (slices, rows, columns, segments)
    mask = move_slices_back(mask, grid)
    segments = np.stack([np.isin(mask.transpose(2, 1, 0), values) for values in names.values()], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values in the headers of others, such as names that are too long
        slices = [dcmread(file, stop_before_pixels=True) for file in grid.files]
        try:
            made = highdicom.seg.Segmentation(
                source_images=slices,
                pixel_array=segments,
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=[_description(number, name) for number, name in enumerate(names, 1)],
                series_instance_uid=generate_uid(),
                series_number=1000,
                sop_instance_uid=generate_uid(),
                instance_number=1,
                manufacturer="vil_dense",
                manufacturer_model_name="vil_dense",
                software_versions=__version__,
                device_serial_number="1",
                content_label="SEGMENTATION",
                omit_empty_frames=bool(segments.any()),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{grid.path}: no DICOM segmentation can be made with these headers ({type(error).__name__}: {error})"
            ) from None
        write_whole(path, lambda part: made.save_as(part))


def _description(number: int, name: str) -> "highdicom.seg.SegmentDescription":
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=highdicom.sr.CodedConcept(f"LABEL{number}", SCHEME, name[:64]),
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name="vil_dense", version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
    )
