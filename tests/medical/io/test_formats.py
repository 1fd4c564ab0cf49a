"""Tests that each format gives the same voxels at the same places, and bad files one sentence."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import affine, write_nifti
from refusals import assert_one_line, raises_one_line

from vil_dense.medical.data.cases import read_case
from vil_dense.medical.datalists.datalist import read_datalist
from vil_dense.medical.io.volumes import read_grid, read_image, read_label, stem, write_mask

SimpleITK = pytest.importorskip("SimpleITK", reason="NRRD and MetaImage are read by SimpleITK")

SHAPE = (7, 8, 11)
VOXELS = np.random.default_rng(0).integers(-99, 99, SHAPE).astype(np.int16)
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")


@pytest.mark.parametrize("suffix", ITK)
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "oblique"])
def test_itk_files_lie_where_nibabel_says(orientation: str, suffix: str, tmp_path: Path) -> None:
    """Compares a file that SimpleITK makes of a NIfTI file with nibabel's reading of the NIfTI file."""
    source = write_nifti(tmp_path / "a.nii.gz", VOXELS, affine(orientation, (0.5, 0.7, 2.5)))
    path = tmp_path / f"b{suffix}"
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(source)), str(path))
    image, grid = read_image([path])
    np.testing.assert_array_equal(image[0], VOXELS)
    np.testing.assert_allclose(grid.affine, nibabel.load(source).affine, atol=1e-5)
    assert grid.header.get_data_dtype() == np.int16 and grid.warning == "" and stem(path) == "b"
    mask = (VOXELS > 0).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, grid)
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    np.testing.assert_allclose(written.affine, nibabel.load(source).affine, atol=1e-5)
    assert written.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (1, 1, 1)),
        ("left-posterior-superior", (-1, -1, 1)),
        ("LAS", (-1, 1, 1)),
        (None, (-1, -1, 1)),
    ],
)
def test_the_spaces_of_nrrd(space: str | None, signs: tuple[int, ...], tmp_path: Path) -> None:
    """Tests headers written by hand, after the format's definition."""
    place = ["space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (10,20,30)"]
    place = [f"space: {space}", *place] if space else ["spacings: 2 3 4"]
    lines = ["NRRD0004", "type: short", "dimension: 3", *place, "sizes: 7 8 11", "endian: little", "encoding: raw"]
    path = tmp_path / "a.nrrd"
    path.write_bytes("\n".join([*lines, "\n"]).encode() + VOXELS.tobytes(order="F"))
    image, grid = read_image([path])
    np.testing.assert_array_equal(image[0], VOXELS)
    np.testing.assert_allclose(np.diag(grid.affine)[:3], np.array([2, 3, 4]) * signs)
    np.testing.assert_allclose(grid.affine[:3, 3], np.array([10, 20, 30] if space else [0, 0, 0]) * signs)
    if space:
        assert grid.warning == ""
    else:
        assert_one_line(grid.warning, "no anatomical space")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_channels_and_frames(suffix: str, tmp_path: Path) -> None:
    """Tests that several values at a voxel are channels, a fourth axis too; one of them is read by its number."""
    parts = np.stack([VOXELS, VOXELS + 1, VOXELS + 2])  # (C, I, J, K)
    vector = SimpleITK.GetImageFromArray(parts.transpose(3, 2, 1, 0), isVector=True)
    SimpleITK.WriteImage(vector, str(tmp_path / f"vector{suffix}"))
    four = SimpleITK.GetImageFromArray(parts.transpose(0, 3, 2, 1), isVector=False)
    SimpleITK.WriteImage(four, str(tmp_path / f"four{suffix}"))
    write_nifti(tmp_path / "four.nii.gz", parts.transpose(1, 2, 3, 0))
    for path in (tmp_path / f"vector{suffix}", tmp_path / f"four{suffix}", tmp_path / "four.nii.gz"):
        np.testing.assert_array_equal(read_image([path], 3)[0], parts)
        np.testing.assert_array_equal(read_image([path], 1, frame=2)[0], parts[2:])
        with raises_one_line(ValueError, path, "no frame 3", "it holds 3"):
            read_image([path], 1, frame=3)


def test_what_nibabel_reads_besides_nifti(tmp_path: Path) -> None:
    place = affine("LAS", (0.5, 0.7, 2.5))
    nibabel.save(nibabel.Nifti1Pair(VOXELS, place), tmp_path / "pair.hdr")
    nibabel.save(nibabel.freesurfer.MGHImage(VOXELS, place), tmp_path / "a.mgz")
    nibabel.save(nibabel.AnalyzeImage(VOXELS, None), tmp_path / "old.hdr")
    for name in ("pair.hdr", "a.mgz"):
        image, grid = read_image([tmp_path / name])
        np.testing.assert_array_equal(image[0], VOXELS)
        np.testing.assert_allclose(grid.affine, place, atol=1e-4)
        assert grid.warning == ""
    image, grid = read_image([tmp_path / "old.hdr"])
    np.testing.assert_array_equal(image[0], VOXELS)
    assert_one_line(grid.warning, "left", "Analyze")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


def text(path: Path) -> None:
    path.write_text("no volume\n" * 50)


def claims_more(path: Path) -> None:
    content = path.read_bytes().replace(b"7 8 11", b"70000 80000 11000")
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, text, claims_more], ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mgz", ".hdr"])
def test_damaged_files(suffix: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".mgz":
        nibabel.save(nibabel.freesurfer.MGHImage(VOXELS, affine()), path)
    elif suffix == ".hdr":
        nibabel.save(nibabel.Nifti1Pair(VOXELS, affine()), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS.T), str(path))
    if damage is claims_more and suffix in (".mgz", ".hdr"):
        content = bytearray(gzip.decompress(path.read_bytes()) if suffix == ".mgz" else path.read_bytes())
        sizes, place = (
            np.array([30000] * 3, ">i4" if suffix == ".mgz" else "<i2").tobytes(),
            4 if suffix == ".mgz" else 42,
        )
        content[place : place + len(sizes)] = sizes
        path.write_bytes(gzip.compress(content) if suffix == ".mgz" else content)
    else:
        damage(path if suffix != ".hdr" or damage is text else path.with_suffix(".img"))
    with raises_one_line(ValueError, path):
        read_image([path])


def test_voxels_that_are_refused(tmp_path: Path) -> None:
    flat = tmp_path / "flat.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS[..., 0].T), str(flat))
    with raises_one_line(ValueError, flat, "2D", "7 x 8"):
        read_grid(flat)
    numbers = tmp_path / "complex.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS.T.astype(np.complex64)), str(numbers))
    with raises_one_line(ValueError, numbers, "complex"):
        read_grid(numbers)
    with raises_one_line(ValueError, "a.tif", ".nii.gz", ".nrrd"):
        (tmp_path / "a.tif").touch()
        read_grid(tmp_path / "a.tif")


def test_nan_is_a_background_on_request(tmp_path: Path) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[:2] = np.nan
    path = write_nifti(tmp_path / "a.nii.gz", voxels)
    with raises_one_line(ValueError, path, "176 voxels of NaN", "nan_background=0"):
        read_image([path])
    image = read_image([path], nan=-7)[0][0]
    assert (image[:2] == -7).all()
    np.testing.assert_array_equal(image[2:], VOXELS[2:])
    voxels[3, 3, 3] = np.inf
    write_nifti(path, voxels)
    with raises_one_line(ValueError, path, "1 voxel "):
        read_image([path], nan=0)


def test_a_data_set_of_mixed_formats(tmp_path: Path) -> None:
    """Tests that image and label of a case are matched by their names, whatever their formats."""
    source = write_nifti(tmp_path / "labels/a.nii.gz", (VOXELS > 0).astype(np.uint8), affine("LAS", (1, 1, 2)))
    (tmp_path / "images").mkdir()
    image = SimpleITK.Cast(SimpleITK.ReadImage(str(source)), SimpleITK.sitkFloat32)
    SimpleITK.WriteImage(image, str(tmp_path / "images/a.nrrd"))
    (case,) = read_datalist(tmp_path).cases
    loaded = read_case(case, 1, (0, 1))
    np.testing.assert_array_equal(loaded.image[0], loaded.label)
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(source)), str(tmp_path / "a.mha"))
    np.testing.assert_array_equal(read_label(tmp_path / "a.mha", (0, 1))[0], loaded.label)


def test_channel_files_without_a_list(tmp_path: Path) -> None:
    """Tests that NAME_0000, NAME_0001, ... are channels where the label is NAME; else they are cases."""
    for name in ("x", "y"):
        write_nifti(tmp_path / f"labelsTr/{name}.nii.gz", np.ones(SHAPE, np.uint8))
        for channel in range(3):
            write_nifti(tmp_path / f"imagesTr/{name}_{channel:04d}.nii.gz", VOXELS + channel)
    write_nifti(tmp_path / "labelsTr/amos_0001.nii.gz", np.ones(SHAPE, np.uint8))
    write_nifti(tmp_path / "imagesTr/amos_0001.nii.gz", VOXELS)
    cases = {case.name: case for case in read_datalist(tmp_path).cases}
    assert {name: len(case.images) for name, case in cases.items()} == dict(amos_0001=1, x=3, y=3)
    assert read_case(cases["y"], 3, (0, 1)).image[2, 0, 0, 0] == VOXELS[0, 0, 0] + 2
