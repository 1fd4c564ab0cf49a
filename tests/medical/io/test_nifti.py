"""Tests NIfTI: masks on the grid of their image, bad files refused in one sentence, nothing half written."""

import gzip
import resource
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nifti_files import affine, write_nifti
from refusals import assert_one_line, raises_one_line

from vil_dense.medical.io.volumes import check_same_grid, read_grid, read_image, read_label, write_mask

SHAPE = (5, 6, 4)
RAMP = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
PLACED = ("pixdim", "qform_code", "sform_code", "xyzt_units", "descrip", "srow_x", "srow_y", "srow_z")
QUATERNION = tuple(f"{name}_{axis}" for name, axes in (("quatern", "bcd"), ("qoffset", "xyz")) for axis in axes)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PSR", "LPS", "oblique"])
def test_a_mask_lies_on_the_grid_of_its_image(orientation: str, suffix: str, tmp_path: Path) -> None:
    image_path = write_nifti(tmp_path / f"a{suffix}", RAMP, affine(orientation, (0.5, 0.7, 7.5)))
    image, grid = read_image([image_path])
    np.testing.assert_array_equal(image[0], RAMP)
    assert grid.spacing_mm == pytest.approx((0.5, 0.7, 7.5))
    assert orientation in (grid.orientation, "oblique")
    mask = (RAMP % 3).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, grid)
    source, written = nibabel.load(image_path), nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), mask)
    np.testing.assert_array_equal(written.affine, source.affine)
    for key in PLACED + QUATERNION:
        assert written.header[key].tobytes() == source.header[key].tobytes(), key
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (2, 1)
    assert written.header.get_xyzt_units() == ("mm", "sec")
    assert written.get_data_dtype() == np.uint8
    label, label_grid = read_label(tmp_path / "mask.nii.gz", range(3))
    np.testing.assert_array_equal(label, mask)
    check_same_grid(grid, label_grid)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("slope", [None, 0.25])
def test_voxels_of_every_type(dtype: str, endian: str, slope: float | None, tmp_path: Path) -> None:
    stored = RAMP.astype(dtype)
    path = write_nifti(tmp_path / "a.nii.gz", stored, endian=endian, slope=slope)
    image, grid = read_image([path])
    assert image.dtype == np.float32 and image.dtype.isnative
    expected = RAMP if slope is None else RAMP * slope - 5
    np.testing.assert_allclose(image[0], expected, rtol=1e-6)
    mask = (RAMP > 50).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, grid)
    np.testing.assert_array_equal(nibabel.load(tmp_path / "mask.nii.gz").get_fdata(), mask)


def test_a_nifti2_image_gets_a_nifti2_mask(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(RAMP, affine()), tmp_path / "a.nii")
    _, grid = read_image([tmp_path / "a.nii"])
    write_mask(tmp_path / "mask.nii.gz", RAMP.astype(np.uint16), grid)
    assert isinstance(nibabel.load(tmp_path / "mask.nii.gz"), nibabel.Nifti2Image)


def test_channels_in_one_file_or_in_several(tmp_path: Path) -> None:
    four = write_nifti(tmp_path / "four.nii.gz", np.stack([RAMP, RAMP + 1], axis=-1))
    single = [write_nifti(tmp_path / f"{name}.nii.gz", RAMP + name) for name in (0, 1)]
    whole, grid = read_image([four], channels=2)
    np.testing.assert_array_equal(whole, np.stack([RAMP, RAMP + 1]))
    np.testing.assert_array_equal(read_image(single, channels=2)[0], whole)
    write_mask(tmp_path / "mask.nii.gz", RAMP.astype(np.uint8), grid)
    assert nibabel.load(tmp_path / "mask.nii.gz").shape == SHAPE


def refused(path: Path, channels: int = 1) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read_image([path], channels)
    message = str(error.value)
    assert "\n" not in message and message.startswith((str(path), f"no volume at {path}"))
    return message.removeprefix(str(path)).strip()


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    four = write_nifti(tmp_path / "four.nii.gz", np.stack([RAMP, RAMP, RAMP], axis=-1))
    assert_one_line(refused(four), "4D", "5 x 6 x 4 x 3", "1 channel")
    assert_one_line(refused(four, 2), "4D", "5 x 6 x 4 x 3", "2 channels")
    three = write_nifti(tmp_path / "three.nii.gz", RAMP)
    assert_one_line(refused(three, 2), "1 of 2 channels")
    flat = write_nifti(tmp_path / "flat.nii.gz", RAMP[:, :, 0])
    assert_one_line(refused(flat), "2D", "5 x 6")
    colours = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert_one_line(refused(write_nifti(tmp_path / "rgb.nii.gz", colours)), "real numbers")
    assert_one_line(refused(tmp_path / "none.nii.gz"), tmp_path / "none.nii.gz")
    (tmp_path / "a.mha").touch()
    assert_one_line(refused(tmp_path / "a.mha"), tmp_path, "damaged")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, 3e38, -1e30])
def test_voxels_that_are_no_number(value: float, tmp_path: Path) -> None:
    voxels = RAMP.astype(np.float64)
    voxels[1, 2, 3] = value
    path = write_nifti(tmp_path / "a.nii", voxels)
    assert refused(path).startswith("has 1 voxel of NaN")


def test_a_singular_affine(tmp_path: Path) -> None:
    flat = affine()
    flat[:3, 2] = flat[:3, 1]
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(RAMP, affine())
    image.header.set_sform(flat, 1)
    nibabel.save(nibabel.Nifti1Image(RAMP, None, image.header), path)
    assert_one_line(refused(path), "affine")


@pytest.mark.parametrize(
    ("share", "kind"),
    [(0.05, "NIfTI"), (0.5, "cut off"), (0.98, "cut off")],
)
def test_a_truncated_compressed_file(share: float, kind: str, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert_one_line(refused(path), kind)


def test_a_header_whose_rotation_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    image = nibabel.Nifti1Image(RAMP, affine())
    image.header["qform_code"], image.header["sform_code"], image.header["quatern_b"] = 1, 0, 5
    nibabel.save(nibabel.Nifti1Image(RAMP, None, image.header), path)
    assert_one_line(refused(path), "header")


def test_a_flipped_bit_in_a_compressed_file(tmp_path: Path) -> None:
    """Tests voxels that unpack: only the checksum at the end of the file tells."""
    path = write_nifti(tmp_path / "a.nii", np.zeros((40, 40, 40), dtype=np.int16))
    packed = bytearray(gzip.compress(path.read_bytes(), compresslevel=0))
    packed[100_000] ^= 1
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(packed)
    assert_one_line(refused(damaged), "CRC check failed")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for name in ("a.nii", "a.nii.gz"):
        (tmp_path / name).write_bytes(b"not a volume")
        assert_one_line(refused(tmp_path / name), "NIfTI")


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_claims_more_than_the_file_has(compressed: bool, tmp_path: Path) -> None:
    """Tests an impossible claim, refused before memory is asked for, and a possible one, when the file ends."""
    path = write_nifti(tmp_path / "a.nii", RAMP)
    for claim in ((6, 6, 4), (30000, 30000, 30000)):
        content = bytearray(path.read_bytes())
        content[42:48] = np.array(claim, dtype="<i2").tobytes()
        liar = tmp_path / ("b.nii.gz" if compressed else "b.nii")
        liar.write_bytes(gzip.compress(bytes(content)) if compressed else content)
        assert_one_line(refused(liar), " x ".join(map(str, claim)), "bytes")


def test_labels_that_are_none(tmp_path: Path) -> None:
    labels = (RAMP % 3).astype(np.float32)
    path = tmp_path / "a.nii"

    for value, names in ((1.5, ("1.5",)), *((value, (f"label {value}", "0, 1, 2, 5")) for value in (7, 4, -1))):
        labels[2, 2, 2] = value
        write_nifti(path, labels)
        with raises_one_line(ValueError, path, *names):
            read_label(path, (0, 1, 2, 5))
    labels[2, 2, 2] = 5
    np.testing.assert_array_equal(read_label(write_nifti(path, labels), (0, 1, 2, 5))[0], labels)


def test_files_on_different_grids(tmp_path: Path) -> None:
    grid = read_grid(write_nifti(tmp_path / "a.nii", RAMP, affine("LPS")))
    smaller = read_grid(write_nifti(tmp_path / "b.nii", RAMP[1:], affine("LPS")))
    with raises_one_line(ValueError, "5 x 6 x 4", "4 x 6 x 4"):
        check_same_grid(grid, smaller)
    flipped = read_grid(write_nifti(tmp_path / "c.nii", RAMP, affine("RAS")))
    with raises_one_line(ValueError, "a.nii", "c.nii", "10 mm"):
        check_same_grid(grid, flipped)
    rounded = affine("LPS") + 1e-5
    check_same_grid(grid, read_grid(write_nifti(tmp_path / "d.nii", RAMP, rounded)))


def test_a_limit_of_the_system_leaves_what_was_there(tmp_path: Path) -> None:
    """Tests a write that the system itself cuts off, over a mask that is there already."""
    shape = (40, 40, 40)
    noise = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    grid = read_grid(write_nifti(tmp_path / "a.nii", noise))
    mask = tmp_path / "out/mask.nii.gz"
    write_mask(mask, np.zeros(shape, dtype=np.uint8), grid)
    before = mask.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with raises_one_line(OSError, "File too large"):
            write_mask(mask, noise, grid)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in mask.parent.iterdir()] == ["mask.nii.gz"] and mask.read_bytes() == before


def test_labels_that_are_almost_integers(tmp_path: Path) -> None:
    """Tests labels of a scaled header, which are rounded with a warning; soft ones and NaN are refused."""
    label = np.zeros(SHAPE, np.float32)
    label[1, 2] = 1.00001526
    found, grid = read_label(write_nifti(tmp_path / "a.nii.gz", label), [0, 1])
    assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 1}
    assert_one_line(grid.warning, "2e-05", "rounded")
    assert not read_label(write_nifti(tmp_path / "b.nii.gz", np.rint(label)), [0, 1])[1].warning
    with raises_one_line(ValueError, "0.7", "soft labels"):
        read_label(write_nifti(tmp_path / "c.nii.gz", np.where(label, 0.7, 0)), [0, 1])
    with raises_one_line(ValueError, "4 voxels of NaN", "background"):
        read_label(write_nifti(tmp_path / "d.nii.gz", np.where(label, np.nan, 0)), [0, 1])
