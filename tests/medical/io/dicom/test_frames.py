"""Tests enhanced DICOM: all slices in one file, read as the series that it was made of."""

from pathlib import Path

import numpy as np
import pytest
from dicom_files import enhanced, write_series
from nifti_files import affine
from refusals import raises_one_line

from vil_dense.medical.datalists.inputs import find_cases
from vil_dense.medical.io.dicom.frames import read_frames
from vil_dense.medical.io.dicom.seg import write_dicom_seg
from vil_dense.medical.io.volumes import read_grid, read_image

pydicom = pytest.importorskip("pydicom", reason="DICOM headers are read by pydicom")
highdicom = pytest.importorskip("highdicom", reason="enhanced DICOM is made by highdicom")
pytest.importorskip("SimpleITK", reason="DICOM voxels are read by SimpleITK")

SHAPE = (7, 8, 11)
VOXELS = np.random.default_rng(0).integers(-99, 99, SHAPE).astype(np.int16)


def series(folder: Path, orientation: str = "LPS", tilt: float = 0) -> Path:
    """Writes a series with a slope for each slice, as in PET."""
    place = affine(orientation, (0.5, 0.7, 2.5))
    place[1, 2] += 2.5 * np.tan(np.deg2rad(tilt))
    return write_series(folder, VOXELS, place, slope=1 + 0.25 * np.arange(SHAPE[2]), intercept=-5)


@pytest.mark.parametrize(("orientation", "tilt"), [("LPS", 0), ("LAS", 0), ("PSL", 0), ("oblique", 0), ("LPS", 15)])
def test_one_file_is_read_as_the_files_of_its_slices(orientation: str, tilt: float, tmp_path: Path) -> None:
    image, grid = read_image([series(tmp_path / "ct", orientation, tilt)])
    file = next(enhanced(tmp_path / "ct", tmp_path / "enhanced").iterdir())
    for path in (file.parent, file):
        found, own = read_image([path])
        np.testing.assert_array_equal(found, image)
        np.testing.assert_array_equal(own.affine, grid.affine)
        assert own.header == grid.header and own.warning == grid.warning
    (case,) = find_cases(file.parent)
    assert case.name == "enhanced" and sorted(own.frame_numbers) == list(range(1, 12))


def test_its_segmentation_lies_on_the_frames(tmp_path: Path) -> None:
    """Reads it back by highdicom; the folder with image and segmentation still holds one image."""
    folder = enhanced(series(tmp_path / "ct"), tmp_path / "enhanced")
    grid = read_grid(folder)
    mask = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
    write_dicom_seg(folder / "seg.dcm", mask, grid, dict(background=0, liver=1, tumour=2))
    read = highdicom.seg.segread(folder / "seg.dcm")
    (uid,) = {pydicom.dcmread(file).SOPInstanceUID for file in grid.files}
    pixels = read.get_pixels_by_source_frame(uid, list(grid.frame_numbers), combine_segments=True)
    np.testing.assert_array_equal(pixels.transpose(2, 1, 0), mask)
    assert read_grid(folder).shape == SHAPE


def test_files_that_are_no_volume(tmp_path: Path) -> None:
    """Tests frames without place or number, at one position, of another compression, and beside single slices."""
    path = next(enhanced(series(tmp_path / "ct"), tmp_path / "enhanced").iterdir())

    def refuse(change: object, *words: str) -> None:
        data = pydicom.dcmread(path)
        change(data)
        (tmp_path / "changed").mkdir(exist_ok=True)
        data.save_as(tmp_path / "changed/a.dcm")
        with raises_one_line(ValueError, tmp_path / "changed", *words):
            read_image([tmp_path / "changed"])

    def frame(data: object) -> object:
        return data.PerFrameFunctionalGroupsSequence[3]

    refuse(lambda data: delattr(frame(data), "PlanePositionSequence"), "ImagePositionPatient", "frame 4")
    refuse(lambda data: data.PerFrameFunctionalGroupsSequence.pop(), "11 frames", "10")
    refuse(lambda data: delattr(data, "PerFrameFunctionalGroupsSequence"), "11 frames", "film")
    refuse(lambda data: setattr(data, "PixelData", data.PixelData[:-300]), "damaged")
    same = pydicom.dcmread(path).PerFrameFunctionalGroupsSequence[4].PlanePositionSequence
    refuse(lambda data: setattr(frame(data), "PlanePositionSequence", same), "1 of 11", "position")

    def compress(data: object) -> None:
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"  # lossless JPEG
        data.PixelData = pydicom.encaps.encapsulate([b"\0" * 20] * 11)

    refuse(compress, "compression", "dcm2niix")
    data = pydicom.dcmread(sorted((tmp_path / "ct").iterdir())[0])
    data.SeriesInstanceUID = pydicom.dcmread(path).SeriesInstanceUID
    data.save_as(path.parent / "single.dcm")
    with raises_one_line(ValueError, path.parent, "enhanced", "one slice"):
        read_grid(path.parent)


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pydicom, "dcmread", fail)
    with pytest.raises(MemoryError):
        next(read_frames(tmp_path / "a.dcm", [1]))
