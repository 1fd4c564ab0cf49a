"""Writes masks as DICOM segmentations that refer to the slices of their image."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vil_dense import __version__
from vil_dense.files import write_whole
from vil_dense.medical.io.dicom.references import MADE_BY, header_errors, mask_on_slices, source_headers
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.label_map import inside, structures

if TYPE_CHECKING:
    import highdicom

SCHEME = "99VIL"
"""Coding scheme of structures; names that begin with 99 are private in DICOM."""


def write_dicom_seg(path: Path, mask: np.ndarray, grid: Grid, labels: Mapping[str, Any]) -> None:
    """Writes a mask as a binary DICOM segmentation with one segment for each structure, also for an empty one.

    Segments are numbered from 1 in the order of the structures; their codes are of a private scheme, with the names of
    the labels. Slices without a structure are left out, as is usual.

    Args:
        mask: (I, J, K) integers on the grid of the image.
        grid: of a DICOM series.
        labels: value in the mask of each class by name, or the values of a region; 0 is the background.

    Raises:
        ValueError: see `references.mask_on_slices`; there is no structure, or the headers of the slices lack
            what a segmentation needs.
        OSError: it could not be written; no partial file is left.
    """
    mask = mask_on_slices(path, mask, grid)
    names = structures(labels)
    with header_errors(grid, "DICOM segmentation"):
        made = _segmentation(mask, grid, names)
        write_whole(path, lambda part: made.save_as(part))


def _segmentation(mask: np.ndarray, grid: Grid, names: Mapping[str, Any]) -> "highdicom.seg.Segmentation":
    """Returns the segmentation of a mask on the slices of its image."""
    import highdicom
    from pydicom.uid import generate_uid

    if grid.frame_numbers:  # highdicom takes the frames of one file in their order there
        if len(set(grid.files)) > 1:
            raise ValueError("several files of many frames: one is expected")
        mask = mask[..., np.argsort(grid.frame_numbers)]
    # (slices, rows, columns, segments)
    segments = np.stack([inside(mask.transpose(2, 1, 0), values) for values in names.values()], axis=-1)
    return highdicom.seg.Segmentation(
        source_images=source_headers(grid),
        pixel_array=segments,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(number, name) for number, name in enumerate(names, 1)],
        series_instance_uid=generate_uid(),
        series_number=1000,
        sop_instance_uid=generate_uid(),
        software_versions=__version__,
        device_serial_number="1",
        content_label="SEGMENTATION",
        omit_empty_frames=bool(segments.any()),
        **MADE_BY,
    )


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
