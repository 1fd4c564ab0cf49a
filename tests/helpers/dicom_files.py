"""Makes small DICOM series for the tests of volumes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_series(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    uid: str = "1.2.3.4",
    slope: float | Sequence[float] = 1.0,
    intercept: float = 0.0,
    skip: Sequence[int] = (),
    moved_mm: dict[int, float] | None = None,
) -> Path:
    """Writes int16 `voxels` (I, J, K) as one file for each K, under names whose order is not that of the slices.

    Args:
        affine: (4, 4), voxels to mm in RAS directions; I and J are orthogonal.
        slope, intercept: of the rescaling; a slope for each slice, or one for all.
        skip: slices that are not written.
        moved_mm: slices that are moved along K.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    slopes = np.broadcast_to(slope, voxels.shape[2])
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(voxels.shape[2]):
        if k in skip:
            continue
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{uid}.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{(7 * k) % voxels.shape[2]:03d}_{uid[-3:]}{k}.dcm"
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{uid}.{k + 1}"
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.3", uid, "1.2.3.9"
        data.Modality, data.SeriesDescription, data.SeriesNumber, data.InstanceNumber = "CT", "test", 1, k + 1
        data.PatientID, data.PatientName, data.PatientBirthDate, data.PatientSex = "1", "A^B", "", ""
        data.StudyID, data.StudyDate, data.StudyTime, data.AccessionNumber = "1", "20200101", "000000", ""
        data.ReferringPhysicianName = ""
        place = lps[:3] @ [0, 0, k, 1]
        if moved_mm and k in moved_mm:
            place = place + lps[:3, 2] / sizes[2] * moved_mm[k]
        data.ImagePositionPatient = [f"{value:.10g}" for value in place]
        turn = (lps[:3, :2] / sizes[:2]).T.ravel()
        data.ImageOrientationPatient = [f"{value:.10f}" for value in turn]
        data.PixelSpacing = [f"{sizes[1]:.10g}", f"{sizes[0]:.10g}"]  # of rows first
        data.SliceThickness = f"{sizes[2]:.10g}"
        data.Columns, data.Rows = voxels.shape[:2]
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.RescaleSlope, data.RescaleIntercept = f"{slopes[k]:.6g}", f"{intercept:.6g}"
        data.PixelData = voxels[..., k].T.astype("<i2").tobytes()
        data.save_as(path, enforce_file_format=True)
    return folder


def enhanced(series: Path, folder: Path) -> Path:
    """Writes a series of `write_series` as one file of enhanced DICOM, by highdicom, and returns the folder of it."""
    from highdicom.legacy import LegacyConvertedEnhancedCTImage
    from pydicom import dcmread

    slices = [dcmread(path) for path in sorted(series.iterdir())]
    for data in slices:
        data.ImageType, data.Manufacturer, data.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "", "HFS"
    folder.mkdir()
    made = LegacyConvertedEnhancedCTImage(slices, "1.2.3.7", 1, "1.2.3.7.1", 1)
    made.save_as(folder / "enhanced.dcm")
    return folder
