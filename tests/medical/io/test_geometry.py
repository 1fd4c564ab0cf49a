"""Tests where voxels lie: one rule for contradicting headers, anatomical axes, and grids that cannot be resampled."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import LoadImaged, Orientationd
from nifti_files import affine, write_nifti
from refusals import raises_one_line

from vil_dense.medical.io.geometry import AXIS_NAMES, axis_order, contradiction, shear
from vil_dense.medical.io.volumes import check_same_grid, read_grid, read_image, read_label, write_mask

SHAPE = (20, 24, 30)
RAMP = (np.arange(np.prod(SHAPE)) % 251).astype(np.uint8).reshape(SHAPE)


def save(path: Path, sform: np.ndarray, qform: np.ndarray, codes: tuple[int, int], pixdim: object = None) -> Path:
    """Writes `RAMP` with the two matrices and their codes (sform, qform), and pixdim in place of the qform's."""
    header = nibabel.Nifti1Header()
    header.set_qform(qform, codes[1])
    header.set_sform(sform, codes[0])
    if pixdim is not None:
        header["pixdim"][1:4] = pixdim
    nibabel.save(nibabel.Nifti1Image(RAMP, None, header), path)
    return path


def tilted(degrees: float) -> np.ndarray:
    """Returns the affine of a gantry tilt: slices move along the second axis."""
    place = affine("RAS", (0.8, 0.8, 3.0))
    place[1, 2] = 3.0 * np.tan(np.deg2rad(degrees))
    return place


@pytest.mark.parametrize("codes", [(1, 1), (4, 1), (2, 0)])
def test_the_sform_is_used_and_a_contradiction_named(codes: tuple[int, int], tmp_path: Path) -> None:
    place, scaled = affine("LPS", (1, 1, 2)), affine("LPS", (1.3, 1.3, 2.6))
    grid = read_grid(save(tmp_path / "a.nii", scaled, place, codes))
    np.testing.assert_allclose(grid.affine, scaled, rtol=1e-6)
    assert "1.3" in grid.warning and ("qform" in grid.warning) == (codes[1] > 0)
    assert not read_grid(save(tmp_path / "b.nii", place, place, codes)).warning


def test_without_an_sform_the_qform_is_used(tmp_path: Path) -> None:
    place = affine("oblique", (0.5, 0.7, 2))
    grid = read_grid(save(tmp_path / "a.nii", affine(), place, (0, 1)))
    np.testing.assert_allclose(grid.affine, place, atol=1e-4)
    assert not grid.warning


def test_voxel_sizes_left_at_one_are_named(tmp_path: Path) -> None:
    grid = read_grid(save(tmp_path / "a.nii", affine("RAS", (1, 1, 5)), affine(), (2, 0), (1, 1, 1)))
    assert grid.spacing_mm == (1, 1, 5) and "1 x 1 x 1" in grid.warning


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "oblique"])
def test_headers_rounded_to_float32_do_not_contradict_themselves(orientation: str, tmp_path: Path) -> None:
    place = affine(orientation, (0.7421875, 0.7421875, 1.25))
    place[:3, 3] = 250.123, -431.77, 1203.4
    assert not read_grid(write_nifti(tmp_path / "a.nii", np.zeros((512, 512, 3), np.uint8), place)).warning


@pytest.mark.parametrize("degrees", [2, 10, -20])
def test_the_slices_of_a_tilted_gantry_are_moved_to_right_angles(degrees: float, tmp_path: Path) -> None:
    """Tests that voxels stay within half a voxel of their positions, and a mask gets the grid of the file."""
    place = tilted(degrees)
    path = save(tmp_path / "a.nii", place, affine("RAS", (0.8, 0.8, 3.0)), (1, 0))
    height_mm = (SHAPE[2] - 1) * 3.0 / 2
    assert 0.4 < shear(place, SHAPE) / (height_mm * np.tan(np.deg2rad(abs(degrees)))) < 1, "half of it at each end"
    image, grid = read_image([path])
    assert f"{abs(degrees)} degrees" in grid.warning and grid.spacing_mm == pytest.approx((0.8, 0.8, 3.0))
    assert shear(grid.affine, grid.shape) < 1e-4
    stored = np.asarray(nibabel.load(path).dataobj)
    voxels = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1).reshape(-1, 3)
    positions = voxels @ place[:3, :3].T + place[:3, 3]
    there = (positions - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T
    moved = np.rint(there).astype(int)
    assert np.abs(there - moved).max() < 0.5 + 1e-4 and np.abs(there - moved)[:, [0, 2]].max() < 1e-4
    shifts = grid.shifts[voxels[:, 2]]
    np.testing.assert_array_equal(image[0][tuple((voxels + np.c_[shifts, 0 * shifts[:, 0]]).T)], stored.ravel())
    assert (np.abs(moved[:, :2] - voxels[:, :2] - shifts) <= 1).all()
    mask = (image[0] > stored.mean()).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, grid)
    written = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)
    np.testing.assert_array_equal(np.asarray(written.dataobj), stored > stored.mean())
    again, own = read_label(tmp_path / "mask.nii.gz", (0, 1))
    check_same_grid(own, grid)
    np.testing.assert_array_equal(again, mask)


def test_other_shears_are_refused(tmp_path: Path) -> None:
    skewed, steep = affine("RAS", (0.8, 0.8, 3.0)), tilted(50)
    skewed[0, 1] = 0.3
    for place in (skewed, steep):
        with raises_one_line(ValueError, "a.nii", "sheared axes", "45 degrees", "right angles"):
            read_grid(save(tmp_path / "a.nii", place, affine("RAS", (0.8, 0.8, 3.0)), (1, 0)))


def test_shear_below_half_a_voxel_is_read(tmp_path: Path) -> None:
    assert shear(affine("oblique", (0.5, 0.7, 7.5)), (512, 512, 40)) < 1e-9
    read_grid(save(tmp_path / "a.nii", tilted(0.3), affine("RAS", (0.8, 0.8, 3.0)), (1, 0)))


@pytest.mark.parametrize("size", [1e-5, 1e5])
def test_sizes_that_no_volume_has(size: float, tmp_path: Path) -> None:
    place = affine("RAS", (size, size, size))
    with pytest.raises(ValueError, match=r"a\.nii has voxels of 1e"):
        read_grid(save(tmp_path / "a.nii", place, affine(), (1, 0)))


def test_extensions_are_not_read_if_they_are_huge(tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8))
    content = bytearray(path.read_bytes())
    content[108:112] = np.array(2e9, "<f4").tobytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"b\.nii\.gz .*2,000,000,000 bytes"):
        read_grid(tmp_path / "b.nii.gz")


def test_a_volume_larger_than_memory_is_refused(tmp_path: Path) -> None:
    """Tests 3 TiB of zeros, which would fit the file by the ratio of gzip, but not free memory."""
    path = write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8))
    content = bytearray(path.read_bytes())
    content[42:48] = np.array((20000, 20000, 8000), "<i2").tobytes()
    bomb = tmp_path / "b.nii.gz"
    bomb.write_bytes(gzip.compress(bytes(content)))
    with bomb.open("ab") as file:
        file.truncate(4 * 2**30)  # sparse
    with pytest.raises(ValueError, match=r"b\.nii\.gz takes .* GiB to read"):
        read_image([bomb])


def test_cifti_is_refused(tmp_path: Path) -> None:
    axes = (
        nibabel.cifti2.ScalarAxis(["a"]),
        nibabel.cifti2.BrainModelAxis.from_mask(np.ones((3, 3, 3)), affine=np.eye(4)),
    )
    image = nibabel.Cifti2Image(np.zeros((1, 27), np.float32), axes)
    nibabel.save(image, tmp_path / "a.dscalar.nii")
    with pytest.raises(ValueError, match=r"a\.dscalar\.nii"):
        read_grid(tmp_path / "a.dscalar.nii")


def test_a_contradiction_says_both(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", affine("RAS", (1.3, 1, 1)), affine(), (1, 1))
    text = contradiction(nibabel.load(path).header, nibabel.load(path).affine, SHAPE)
    assert "[1.3 0 0 -11.5" in text and "[1 0 0 -11.5" in text


@pytest.mark.parametrize(
    ("unit", "warned"), [("mm", ""), ("unknown", ""), ("meter", "metres"), ("micron", "micrometres")]
)
def test_units_other_than_mm_are_named(unit: str, warned: str, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "a.nii")
    warning = read_grid(tmp_path / "a.nii").warning
    assert warned in warning if warned else not warning


@pytest.mark.parametrize("orientation", ["RAS", "PSR", "ILA"])
@pytest.mark.parametrize("own", ["RAS", "LPS", "SAR", "oblique"])
def test_the_order_is_that_of_monais_orientation(orientation: str, own: str, tmp_path: Path) -> None:
    image = np.zeros((3, 4, 5), np.float32)
    path = write_nifti(tmp_path / "i.nii", image, affine(own))
    loaded = LoadImaged("image", ensure_channel_first=True)(dict(image=str(path)))
    turned = Orientationd("image", axcodes=orientation, labels=AXIS_NAMES)(loaded)["image"]
    assert [image.shape[axis] for axis in axis_order(affine(own), orientation)] == list(turned.shape[1:])
