"""Writes masks as DICOM structure sets (RTSTRUCT): closed contours on the slices of their image, in mm.

A contour follows the edges of the voxels, a hundredth of a voxel inside. Holes are joined to the outside by keyholes,
see `contours`; parts of a structure that do not touch are contours of their own.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vil_dense import __version__
from vil_dense.files import write_whole
from vil_dense.medical.io.dicom.contours import outlines
from vil_dense.medical.io.dicom.references import MADE_BY, header_errors, mask_on_slices, source_headers
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.io.itk import RAS_OF_LPS
from vil_dense.medical.label_map import inside, structures

if TYPE_CHECKING:
    from pydicom import Dataset

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Class by which structure sets refer to a study; it is retired, and nothing has taken its place."""


def write_rtstruct(path: Path, mask: np.ndarray, grid: Grid, labels: Mapping[str, Any]) -> None:
    """Writes a mask as a structure set with one region of interest for each structure, also for an empty one.

    Args:
        mask: (I, J, K) integers on the grid of the image.
        grid: of a DICOM series.
        labels: value in the mask of each class by name, or the values of a region; 0 is the background.

    Raises:
        ValueError: see `references.mask_on_slices`; or the headers of the slices lack what a structure set needs.
        OSError: it could not be written; no partial file is left.
    """
    mask = mask_on_slices(path, mask, grid)
    with header_errors(grid, "structure set"):
        made = _structure_set(mask, grid, structures(labels))
        write_whole(path, lambda part: made.save_as(part))


def _structure_set(mask: np.ndarray, grid: Grid, names: Mapping[str, Any]) -> "Dataset":
    """Returns the structure set of a mask on the slices of its image."""
    from highdicom.base import SOPClass
    from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    headers = dict(zip(dict.fromkeys(grid.files), source_headers(grid), strict=True))
    first = headers[grid.files[0]]
    made = SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=generate_uid(),
        series_number=1001,
        sop_instance_uid=generate_uid(),
        sop_class_uid=RTStructureSetStorage,
        modality="RTSTRUCT",
        software_versions=__version__,
        specific_character_set="ISO_IR 192",
        # explicit VRs allow a contour 64 KiB, which are 2,000 points
        transfer_syntax_uid=ImplicitVRLittleEndian,
        **MADE_BY,
    )
    made.copy_patient_and_study_information(first)
    now = datetime.now()
    made.StructureSetLabel, made.ApprovalStatus, made.OperatorsName = "SEGMENTATION", "UNAPPROVED", ""
    made.StructureSetDate, made.StructureSetTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.ReferencedFrameOfReferenceSequence = [_frame_of_reference(first, list(map(_image, headers.values())))]
    images = [_image(headers[file]) for file in grid.files]
    if grid.frame_numbers:  # enhanced DICOM alone has them
        for image, frame in zip(images, grid.frame_numbers, strict=True):
            image.ReferencedFrameNumber = frame
    _add_structures(made, {name: _contours(inside(mask, values), grid, images) for name, values in names.items()})
    return made


def _add_structures(made: "Dataset", contours: Mapping[str, "list[Dataset]"]) -> None:
    """Adds a region of interest for each structure to a structure set, with its contours."""
    frame_of_reference = made.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID
    made.StructureSetROISequence, made.ROIContourSequence, made.RTROIObservationsSequence = [], [], []
    for number, (name, found) in enumerate(contours.items(), 1):
        made.StructureSetROISequence.append(
            _item(
                ROINumber=number,
                ReferencedFrameOfReferenceUID=frame_of_reference,
                ROIName=name[:64],
                ROIGenerationAlgorithm="AUTOMATIC",
            )
        )
        made.ROIContourSequence.append(
            _item(ReferencedROINumber=number, **(dict(ContourSequence=found) if found else {}))
        )
        made.RTROIObservationsSequence.append(
            _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
        )


def _contours(mask: np.ndarray, grid: Grid, images: "list[Dataset]") -> "list[Dataset]":
    """Returns the contours of a mask (I, J, K) bool, each with a reference to its slice."""
    place = (RAS_OF_LPS @ grid.header.get_best_affine())[:3]
    contours = []
    for k in np.flatnonzero(mask.any((0, 1))).tolist():
        for polygon in outlines(mask[..., k]):
            points = np.column_stack([polygon, np.full(len(polygon), k), np.ones(len(polygon))]) @ place.T
            contours.append(
                _item(
                    ContourImageSequence=[images[k]],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{value:.4f}" for value in points.ravel()],
                )
            )
    return contours


def _frame_of_reference(header: "Dataset", images: "list[Dataset]") -> "Dataset":
    """Returns the reference to the series of the image, with all its files."""
    series = _item(SeriesInstanceUID=header.SeriesInstanceUID, ContourImageSequence=images)
    study = _item(
        ReferencedSOPClassUID=STUDY_CLASS,
        ReferencedSOPInstanceUID=header.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    return _item(FrameOfReferenceUID=header.FrameOfReferenceUID, RTReferencedStudySequence=[study])


def _image(header: "Dataset") -> "Dataset":
    """Returns a reference to the image of a file."""
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)


def _item(**values: Any) -> "Dataset":
    """Returns the item of a sequence."""
    from pydicom import Dataset

    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return item
