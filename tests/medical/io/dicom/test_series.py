"""Tests DICOM series that are read, and DICOM segmentations that are written."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import write_series
from nifti_files import affine, write_nifti
from refusals import raises_one_line

from vil_dense.medical.data.cases import read_case
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.medical.datalists.inputs import describe_inputs, find_cases
from vil_dense.medical.io.volumes import read_grid, read_image, source_files

SimpleITK = pytest.importorskip("SimpleITK", reason="DICOM voxels are read by SimpleITK")
pydicom = pytest.importorskip("pydicom", reason="DICOM headers are read by pydicom")

SHAPE = (7, 8, 11)
VOXELS = np.random.default_rng(0).integers(-99, 99, SHAPE).astype(np.int16)
PLACE = affine("LPS", (0.5, 0.7, 2.5))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSL", "oblique"])
def test_a_series_of_a_nifti_volume(orientation: str, tmp_path: Path) -> None:
    """Compares with the affine that the series was made from, and with ITK's own reader of series."""
    place = affine(orientation, (0.5, 0.7, 2.5))
    folder = write_series(tmp_path / "ct", VOXELS, place, slope=2, intercept=-1000)
    image, grid = read_image([folder])
    np.testing.assert_array_equal(image[0], VOXELS * 2 - 1000)
    np.testing.assert_allclose(grid.affine, place, atol=1e-6)
    assert grid.header["sform_code"] == 1
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    itk = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk).T, image[0])
    np.testing.assert_allclose(np.array(itk.GetOrigin()) * (-1, -1, 1), grid.affine[:3, 3], atol=1e-5)
    far = itk.TransformIndexToPhysicalPoint([n - 1 for n in SHAPE])
    np.testing.assert_allclose(np.array(far) * (-1, -1, 1), (grid.affine @ [6, 7, 10, 1])[:3], atol=1e-4)


def test_slices_against_their_normal_are_sorted_along_it(tmp_path: Path) -> None:
    place = affine("LAS", (0.5, 0.7, 2.5))  # left-handed: the normal of rows and columns points down
    image, grid = read_image([write_series(tmp_path / "ct", VOXELS, place)])
    np.testing.assert_array_equal(image[0], VOXELS[..., ::-1])
    np.testing.assert_allclose(grid.affine[:3, 3], (place @ [0, 0, 10, 1])[:3], atol=1e-6)
    assert grid.orientation == "LAI"


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    slopes = 1 + 0.25 * np.arange(SHAPE[2])
    image, _ = read_image([write_series(tmp_path / "pet", VOXELS, PLACE, slope=slopes)])
    np.testing.assert_array_equal(image[0], VOXELS * slopes)


def test_one_of_several_series_is_chosen(tmp_path: Path) -> None:
    write_series(tmp_path, VOXELS, PLACE)
    write_series(tmp_path, VOXELS[..., :5] + 1, PLACE, uid="1.2.3.5")
    for call in (lambda: read_grid(tmp_path), lambda: find_cases(tmp_path)):
        with raises_one_line(ValueError, tmp_path, "2 series", "--series", "1.2.3.4 (test, 11 images)", "1.2.3.5"):
            call()
    with raises_one_line(ValueError, "no series 1.2.3.6", "1.2.3.4", "1.2.3.5"):
        find_cases(tmp_path, series="1.2.3.6")
    (case,) = find_cases(tmp_path, series="1.2.3.5")
    image, _ = read_image(case.images)
    np.testing.assert_array_equal(image[0], VOXELS[..., :5] + 1)
    assert case.name == tmp_path.name
    with raises_one_line(ValueError, "--series"):
        find_cases(write_nifti(tmp_path / "a/a.nii", VOXELS).parent, series="1.2.3.5")


def test_folders_of_patients(tmp_path: Path) -> None:
    """Tests that each folder of DICOM files is a case, beside files of other formats."""
    write_series(tmp_path / "p1", VOXELS, PLACE)
    write_series(tmp_path / "p2", VOXELS, PLACE)
    write_nifti(tmp_path / "p3.nii.gz", VOXELS)
    (tmp_path / "p2/notes.txt").touch()
    cases = find_cases(tmp_path)
    assert [case.name for case in cases] == ["p1", "p2", "p3"]
    assert describe_inputs(tmp_path, cases, 1) == [f"1 file in {tmp_path} is not read: p2/notes.txt"]
    assert len(source_files(tmp_path / "p1")) == SHAPE[2]
    write_nifti(tmp_path / "p2.nii.gz", VOXELS)
    with raises_one_line(ValueError, tmp_path / "p2", "p2.nii.gz"):
        find_cases(tmp_path)


def test_a_data_set_of_dicom_folders(tmp_path: Path) -> None:
    """Tests that a folder and its label are matched by their names, in plain folders and in a list."""
    label = (VOXELS > 0).astype(np.uint8)
    for name in ("p1", "p2.a"):
        write_series(tmp_path / f"images/{name}", VOXELS, PLACE)
        write_nifti(tmp_path / f"labels/{name}.nii.gz", label, PLACE)
    plain = read_datalist(tmp_path).cases
    entries = [dict(image=f"images/{name}", label=f"labels/{name}.nii.gz") for name in ("p1", "p2.a")]
    (tmp_path / "dataset.json").write_text(json.dumps(dict(training=entries)))
    assert read_datalist(tmp_path).cases == plain
    assert find_cases(tmp_path / "dataset.json") == list(plain)
    for case in plain:
        loaded = read_case(case, 1, (0, 1))
        np.testing.assert_array_equal(loaded.image[0] > 0, loaded.label)


SERIES: dict[str, tuple[dict[str, Any], Sequence[str]]] = {
    "missing": (dict(skip=[4, 5]), ["lacks 2 slices", "37.5", "45"]),
    "irregular": (dict(moved_mm={3: 0.9}), ["irregular", "3.4 mm", "2.5 mm"]),
    "repeated": (dict(moved_mm={3: 2.5}), ["1 of 11", "position"]),
    "alone": (dict(skip=range(1, 11)), ["one slice"]),
}


@pytest.mark.parametrize("name", SERIES)
def test_series_that_are_no_volume(name: str, tmp_path: Path) -> None:
    options, words = SERIES[name]
    folder = write_series(tmp_path / "ct", VOXELS, PLACE, **options)
    with raises_one_line(ValueError, folder, *words):
        read_grid(folder)


def changed(folder: Path, **values: Any) -> Path:
    """Changes elements of one slice; None removes an element."""
    path = sorted(folder.iterdir())[3]
    data = pydicom.dcmread(path)
    for key, value in values.items():
        if value is None:
            delattr(data, key)
        else:
            setattr(data, key, value)
    data.save_as(path)
    return path


@pytest.mark.parametrize(
    ("values", "word"),
    [
        (dict(ImagePositionPatient=None), "ImagePositionPatient"),
        (dict(ImageOrientationPatient=[0, 1, 0, 1, 0, 0]), "orientation"),
        (dict(PixelSpacing=[1, 1]), "spacing"),
        (dict(Rows=4), "size"),
        (dict(SamplesPerPixel=3), "colours"),
        (dict(NumberOfFrames=5), "5 frames"),
        (dict(SOPClassUID=None), "damaged"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_slices_that_do_not_belong(values: dict[str, Any], word: str, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOXELS, PLACE)
    path = changed(folder, **values)
    with raises_one_line(ValueError, word) as caught:
        read_grid(folder)
    assert str(path) in str(caught.value) or word in ("orientation", "spacing", "size")


@pytest.mark.parametrize("size", [400, 900, -60])
def test_a_cut_slice(size: int, tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOXELS, PLACE)
    path = sorted(folder.iterdir())[-1]
    path.write_bytes(path.read_bytes()[:size])
    with raises_one_line(ValueError, "ct"):
        read_image([folder])


def test_a_hostile_header(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", VOXELS, PLACE)
    path = sorted(folder.iterdir())[-1]
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    with raises_one_line(ValueError, path, "damaged"):
        read_grid(folder)


def real_series(name: str) -> Path:
    folder = Path(pydicom.__file__).parent / "data/test_files/dicomdirtests" / name
    if not folder.is_dir():
        pytest.skip(f"pydicom has no test data at {folder}")
    return folder


def test_a_series_of_a_scanner() -> None:
    """Reads five slices of a CT that come with pydicom."""
    folder = real_series("98892001/CT5N")
    image, grid = read_image([folder])
    assert grid.shape == (16, 16, 5) and grid.orientation == "LPS"
    assert grid.spacing_mm == pytest.approx((0.488281, 0.488281, 2.5), abs=1e-5)
    for k, path in enumerate(grid.files):
        data = pydicom.dcmread(path)
        assert data.ImagePositionPatient[2] == pytest.approx(float((grid.affine @ [0, 0, k, 1])[2]))
        expected = data.pixel_array * float(data.RescaleSlope) + float(data.RescaleIntercept)
        np.testing.assert_array_equal(image[0, ..., k], expected.T)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("77654033/CT2", ["lacks 161 slices"]),
        ("77654033/CR1", ["ImageOrientationPatient"]),
        ("98892001/CT2N", ["localizer"]),
        ("98892003/MR2", ["series", "T/S/C RF FAST PILOT"]),
        ("TINY_ALPHA/PT000000/ST000000/SE000000", ["no DICOM images"]),
    ],
)
def test_series_of_scanners_that_are_no_volume(name: str, words: Sequence[str]) -> None:
    folder = real_series(name)
    with raises_one_line(ValueError, folder, *words):
        read_grid(folder)


@pytest.mark.parametrize("orientation", ["LPS", "oblique"])
def test_a_segmentation_lies_on_the_slices(orientation: str, tmp_path: Path) -> None:
    """Reads it back by highdicom: voxel for voxel, segment by segment, with the UIDs of the slices."""
    highdicom = pytest.importorskip("highdicom", reason="DICOM segmentations are written by highdicom")
    from vil_dense.medical.io.dicom.seg import write_dicom_seg

    grid = read_grid(write_series(tmp_path / "ct", VOXELS, affine(orientation, (0.5, 0.7, 2.5))))
    mask = np.random.default_rng(1).integers(0, 4, SHAPE).astype(np.uint8)
    mask[..., 4] = 0
    mask[mask == 3] = 0
    labels = dict(background=0, liver=1, tumour=2, cyst=3)
    path = tmp_path / "seg.dcm"
    write_dicom_seg(path, mask, grid, labels)
    read = highdicom.seg.segread(path)
    assert [read.get_segment_description(n).segment_label for n in (1, 2, 3)] == ["liver", "tumour", "cyst"]
    slices = [pydicom.dcmread(file, stop_before_pixels=True) for file in grid.files]
    uids = [str(data.SOPInstanceUID) for data in slices]
    found = read.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
    np.testing.assert_array_equal(found.transpose(2, 1, 0), mask)
    assert {str(uid) for _, _, uid in read.get_source_image_uids()} == set(uids)
    volume = read.get_volume(combine_segments=True)
    here = np.stack(np.meshgrid(*map(np.arange, SHAPE), [1], indexing="ij"), -1).reshape(-1, 4)
    there = here @ (np.linalg.inv(volume.affine) @ np.diag([-1, -1, 1, 1]) @ grid.affine).T
    np.testing.assert_allclose(there, np.rint(there), atol=1e-4)
    np.testing.assert_array_equal(volume.array[tuple(np.rint(there[:, :3]).astype(int).T)], mask.ravel())
    assert read.StudyInstanceUID == "1.2.3" and read.FrameOfReferenceUID == "1.2.3.9" and read.PatientID == "1"
    empty = np.zeros(SHAPE, np.uint8)
    write_dicom_seg(path, empty, grid, labels)
    assert highdicom.seg.segread(path).pixel_array.max() == 0
