"""Tests structure sets: outlines of masks hold just their pixels, and are read back as the masks they were made of."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_contours import read_rtstruct, turns_around
from dicom_files import enhanced, write_series
from nifti_files import affine, write_nifti
from refusals import raises_one_line
from scipy import ndimage

from vil_dense.medical.io.dicom.contours import outlines
from vil_dense.medical.io.dicom.masks import DICOM_MASKS
from vil_dense.medical.io.dicom.rtstruct import write_rtstruct
from vil_dense.medical.io.volumes import read_grid

pydicom = pytest.importorskip("pydicom", reason="DICOM headers are read by pydicom")
pytest.importorskip("highdicom", reason="structure sets are written with highdicom")

SHAPE = (17, 14, 6)
LABELS = dict(background=0, liver=1, tumour=[2, 3], Zyste_ö=4)


def labels() -> np.ndarray:
    """Returns a block with holes, islands and noise, and a class that is empty."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:15, 2:12, 1:5], mask[4:9, 4:9, 2:4], mask[6, 6, 2] = 1, 0, 2
    return np.where(np.random.default_rng(0).random(SHAPE) < 0.1, 3, mask).astype(np.uint8)


@pytest.mark.parametrize("orientation", ["LPS", "LAS", "PSL", "oblique", "tilted", "enhanced"])
def test_a_structure_set_is_read_back_voxel_for_voxel(orientation: str, tmp_path: Path) -> None:
    place = affine("LPS" if orientation in ("tilted", "enhanced") else orientation, (0.5, 0.7, 2.5))
    place[1, 2] += 2.5 * np.tan(np.deg2rad(15)) * (orientation == "tilted")
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), place)
    if orientation == "enhanced":
        folder = enhanced(folder, tmp_path / "enhanced")
    grid = read_grid(folder)
    mask, path = np.zeros(grid.shape, np.uint8), tmp_path / "rt.dcm"
    for k, (i, j) in enumerate(np.zeros((SHAPE[2], 2), int) if grid.shifts is None else grid.shifts):
        mask[i : i + SHAPE[0], j : j + SHAPE[1], k] = labels()[..., k]
    write_rtstruct(path, mask, grid, LABELS)
    found = read_rtstruct(path, grid.header.get_best_affine(), SHAPE)
    assert list(found) == ["liver", "tumour", "Zyste_ö"] and not found["Zyste_ö"].any()
    np.testing.assert_array_equal(found["liver"], labels() == 1)
    np.testing.assert_array_equal(found["tumour"], np.isin(labels(), (2, 3)))
    data = pydicom.dcmread(path)
    assert (data.PatientID, data.StudyInstanceUID, data.Modality) == ("1", "1.2.3", "RTSTRUCT")
    sources = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, grid.files)}
    axes = pydicom.dcmread(next((tmp_path / "ct").iterdir())).ImageOrientationPatient
    normal = np.cross(*np.array(axes, float).reshape(2, 3))
    for contour in data.ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        headers = sources[image.ReferencedSOPInstanceUID]
        if orientation == "enhanced":
            group = headers.PerFrameFunctionalGroupsSequence[image.ReferencedFrameNumber - 1]
            headers = group.PlanePositionSequence[0]
        apart = np.array(contour.ContourData[:3], float) - np.array(headers.ImagePositionPatient, float)
        assert abs(apart @ normal) < 1e-3, "a contour lies in the plane of the image that it names"


def test_contours_of_many_points(tmp_path: Path) -> None:
    """Writes a comb of 2000 teeth: more text than the 64 KiB that explicit value representations allow."""
    voxels = np.zeros((4000, 5, 2), np.int16)
    grid = read_grid(write_series(tmp_path / "ct", voxels, affine("LPS", (0.5, 0.7, 2.5))))
    mask = np.zeros(voxels.shape, np.uint8)
    mask[:, 1], mask[::2, 2:4] = 1, 1
    write_rtstruct(tmp_path / "rt.dcm", mask, grid, dict(background=0, comb=1))
    (contour, _) = pydicom.dcmread(tmp_path / "rt.dcm").ROIContourSequence[0].ContourSequence
    assert sum(len(str(value)) + 1 for value in contour.ContourData) > 2**16
    assert contour.NumberOfContourPoints == 8002


@pytest.mark.parametrize("form", DICOM_MASKS)
def test_masks_that_are_refused(form: str, tmp_path: Path) -> None:
    """Tests files without slices to refer to, another size, and headers that lack what is needed."""
    write, path, mask = DICOM_MASKS[form], tmp_path / "mask.dcm", np.zeros(SHAPE, np.uint8)
    nifti = read_grid(write_nifti(tmp_path / "a.nii", mask))
    with raises_one_line(ValueError, nifti.path, "DICOM"):
        write(path, mask, nifti, LABELS)
    folder = write_series(tmp_path / "ct", np.zeros(SHAPE, np.int16), affine("LPS", (0.5, 0.7, 2.5)))
    grid = read_grid(folder)
    with raises_one_line(ValueError, "17 x 14 x 5", "17 x 14 x 6"):
        write(path, mask[..., 1:], grid, LABELS)
    for file in folder.iterdir():
        data = pydicom.dcmread(file)
        del data.StudyInstanceUID
        data.save_as(file)
    with raises_one_line(ValueError, folder, "StudyInstanceUID"):
        write(path, mask, grid, LABELS)
    assert not path.exists()


DRAWN = {
    "one": "#",
    "corner": "#. .#",
    "ring": "### #.# ###",
    "hole at a corner": "#### ##.# #.## ####",
    "holes beside": "##### #.#.# ##### #.#.# #####",
    "island": "##### #...# #.#.# #...# #####",
    "steps": "#... ##.. #### .###",
    "comb": "#.#.# ##### #.#.#",
    "full": "### ### ###",
    "empty": "... ...",
}


def drawn(name: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in DRAWN[name].split()])


def check(inside: np.ndarray) -> None:
    found = outlines(inside)
    parts, count = ndimage.label(inside)
    assert len(found) == count
    seen, drawn_again = np.zeros(inside.shape, int), np.zeros(inside.shape, bool)
    for polygon in found:
        turns, crossings = turns_around(polygon, inside.shape)
        np.testing.assert_array_equal(turns, crossings % 2, "keyholes are read alike by both rules")
        assert len({*parts[turns == 1].tolist()}) == 1
        seen += turns
        assert len({*map(tuple, polygon.tolist())}) == len(polygon), "it touches itself nowhere"
        i, j = polygon.T
        area, length = 0.5 * (i @ np.roll(j, -1) - j @ np.roll(i, -1)), np.abs(np.roll(polygon, -1, 0) - polygon).sum()
        assert turns.sum() - 0.011 * length <= area <= turns.sum()
        rounded = [np.rint(polygon[:, ::-1]).astype(np.int32)]
        drawn_again |= cv2.fillPoly(np.zeros(inside.shape, np.uint8), rounded, 1).astype(bool)
        steps = np.sign(np.round(np.roll(polygon, -1, 0) - polygon, 6))
        assert (steps != np.roll(steps, 1, 0)).any(1).all(), "a point at each turn alone"
    np.testing.assert_array_equal(seen, inside)
    np.testing.assert_array_equal(drawn_again, inside, "by OpenCV, from points rounded to pixels")


@pytest.mark.parametrize("name", DRAWN)
def test_drawings(name: str) -> None:
    check(drawn(name))


@pytest.mark.parametrize("density", [0.2, 0.5, 0.8, 0.95])
def test_random_masks(density: float) -> None:
    """Tests masks with hundreds of parts, holes and touching corners each."""
    for seed in range(3):
        check(np.random.default_rng(seed).random((23, 31)) < density)
