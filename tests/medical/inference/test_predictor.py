"""Tests predictions from Python: each kind of input gives the mask of a folder of predictions, bad input a sentence."""

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from dicom_contours import read_rtstruct
from dicom_files import write_series
from nifti_files import affine, write_nifti
from refusals import raises_one_line
from torch import nn
from volume_plans import small_plan

from vil_dense.medical import VolumePredictor
from vil_dense.medical.datalists.inputs import by_frame, find_cases
from vil_dense.medical.inference.batch import Folder
from vil_dense.medical.inference.probabilities import Probabilities

PLAN: dict[str, Any] = small_plan("organ", "vessel", spacing_mm=(1.0, 1.0, 1.5))
SHAPE = (7, 8, 11)
VOXELS = np.random.default_rng(0).integers(0, 99, SHAPE).astype(np.int16)
PLACE = affine("LPS", (0.9, 1.1, 1.5))
FORMS = ("rtstruct", "dicom_seg")


def network(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Conv3d(channels, 3, 3, padding=1)


@pytest.fixture
def predictor() -> VolumePredictor:
    return VolumePredictor([network()], PLAN, largest=True)


def predicted(source: Path, out: Path, **options: Any) -> Path:
    """Returns the folder of predictions, as the command writes it."""
    folder = Folder(out, [network()], PLAN, {}, **options)
    assert folder.predict_all(folder.survey(find_cases(source)), io.StringIO()) == {}
    return out


def test_every_input_gives_the_mask_of_the_command(predictor: VolumePredictor, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "in/a.nii.gz", VOXELS, PLACE)
    out = predicted(path, tmp_path / "out", largest=True, probabilities=Probabilities())
    expected = nibabel.load(out / "masks/a.nii.gz")
    image = nibabel.load(path)
    for volume in (path, str(path), [path], image, (VOXELS, image.affine), (VOXELS[..., None], image.affine)):
        found = predictor.predict(volume)
        np.testing.assert_array_equal(np.asarray(found.mask.dataobj), np.asarray(expected.dataobj))
        np.testing.assert_allclose(found.mask.affine, expected.affine, atol=1e-6)
        assert found.mask.get_data_dtype() == np.uint8 and found.probabilities is None
    found = predictor.predict(image, probabilities=True)
    for key in ("qform_code", "sform_code", "xyzt_units", "descrip"):
        assert found.mask.header[key] == image.header[key], "of a nibabel image they are kept"
    assert found.labels == PLAN["labels"] and [*found.volumes_ml] == ["organ", "vessel"]
    counts = np.bincount(np.asarray(found.mask.dataobj).ravel(), minlength=3)
    assert found.volumes_ml["organ"] == pytest.approx(counts[1] * 0.9 * 1.1 * 1.5 / 1000)
    shares = nibabel.load(out / "probabilities/a.nii.gz").get_fdata()
    np.testing.assert_allclose(found.probabilities.get_fdata(), shares, atol=1e-6)
    some = predictor.predict(path, probabilities=["vessel"]).probabilities
    np.testing.assert_allclose(some.get_fdata()[..., 0], shares[..., 2], atol=1e-6)


def test_masks_are_saved_by_their_ending(predictor: VolumePredictor, tmp_path: Path) -> None:
    found = predictor.predict((VOXELS, PLACE))
    found.save(tmp_path / "deep/mask.nii.gz")
    written = nibabel.load(tmp_path / "deep/mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(found.mask.dataobj))
    np.testing.assert_allclose(written.affine, PLACE, atol=1e-6)
    with raises_one_line(ValueError, "mask.png", ".nii.gz", ".dcm"):
        found.save(tmp_path / "mask.png")
    with raises_one_line(ValueError, "the array", "DICOM"):
        found.save(tmp_path / "mask.dcm")


def test_a_dicom_series_gets_masks_in_dicom(predictor: VolumePredictor, tmp_path: Path) -> None:
    """Tests masks from Python and from a folder of predictions."""
    highdicom = pytest.importorskip("highdicom", reason="DICOM segmentations are written by highdicom")
    pytest.importorskip("SimpleITK", reason="DICOM voxels are read by SimpleITK")
    series = write_series(tmp_path / "ct", VOXELS, PLACE)
    found = predictor.predict(series)
    found.save(tmp_path / "mask.dcm")
    out = predicted(series, tmp_path / "out", largest=True, dicom=FORMS)
    for path in (tmp_path / "mask.dcm", out / "dicom_seg/ct.dcm"):
        read = highdicom.seg.segread(path)
        uids = [f"1.2.3.4.{k + 1}" for k in range(SHAPE[2])]
        pixels = read.get_pixels_by_source_instance(uids, combine_segments=True, ignore_spatial_locations=True)
        np.testing.assert_array_equal(pixels.transpose(2, 1, 0), np.asarray(found.mask.dataobj))
    found.save(tmp_path / "rt.dcm", dicom="rtstruct")
    for path in (tmp_path / "rt.dcm", out / "rtstruct/ct.dcm"):
        masks = read_rtstruct(path, found.mask.affine, SHAPE)
        for name, value in dict(organ=1, vessel=2).items():
            np.testing.assert_array_equal(masks[name], np.asarray(found.mask.dataobj) == value)
    with raises_one_line(ValueError, "dicom_seg or rtstruct", "'sr'"):
        found.save(tmp_path / "sr.dcm", dicom="sr")
    folder = Folder(out, [network()], PLAN, {}, largest=True, dicom=FORMS)
    assert folder.survey(find_cases(series)).todo == [], "the case is done"
    sorted(series.iterdir())[5].write_bytes(b"")
    assert len(folder.survey(find_cases(series)).todo) == 1, "another slice is another image"
    folder = Folder(tmp_path / "other", [network()], PLAN, {}, dicom=FORMS)
    failed = folder.survey(find_cases(write_nifti(tmp_path / "a.nii", VOXELS))).failed
    assert "not a DICOM series" in failed["a"]


def test_a_series_that_suits_no_structure_set_stops_no_other(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom", reason="DICOM structure sets are written by pydicom")
    pytest.importorskip("SimpleITK", reason="DICOM voxels are read by SimpleITK")
    for number, name in enumerate("ab"):
        write_series(tmp_path / f"in/{name}", VOXELS, PLACE, uid=f"1.2.3.{number + 4}")
    for path in (tmp_path / "in/a").iterdir():
        header = pydicom.dcmread(path)
        del header.FrameOfReferenceUID
        header.save_as(path)
    folder = Folder(tmp_path / "out", [network()], PLAN, {}, dicom=["rtstruct"])
    failed = folder.predict_all(folder.survey(find_cases(tmp_path / "in")), io.StringIO())
    assert [*failed] == ["a"] and "FrameOfReferenceUID" in failed["a"]
    assert [path.name for path in (tmp_path / "out/reports").iterdir()] == ["b.json"]
    assert (tmp_path / "out/masks/a.nii.gz").is_file() and (tmp_path / "out/volumes.csv").is_file()


def test_a_tilted_gantry(predictor: VolumePredictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that the mask lies on the slices as they are, and nothing is found beside them."""
    monkeypatch.setattr("vil_dense.medical.inference.probabilities.SLICES", 4)
    pytest.importorskip("highdicom", reason="DICOM segmentations are written by highdicom")
    pytest.importorskip("SimpleITK", reason="DICOM voxels are read by SimpleITK")
    place = PLACE.copy()
    place[1, 2] += 1.5 * np.tan(np.deg2rad(20))
    series = write_series(tmp_path / "ct", VOXELS, place)
    with pytest.warns(UserWarning, match="20 degrees"):
        found = predictor.predict(series, probabilities=True)
    np.testing.assert_allclose(found.mask.affine, place, atol=1e-5)
    assert found.mask.shape == SHAPE and found.probabilities.shape == (*SHAPE, 3)
    top = found.probabilities.get_fdata().argmax(-1)
    plain = VolumePredictor([network()], PLAN)
    with pytest.warns(UserWarning, match="20 degrees"):
        mask = np.asarray(plain.predict(series).mask.dataobj)
    assert (top == mask).mean() > 0.99, "but for ties of rounded probabilities"
    counts = np.bincount(np.asarray(found.mask.dataobj).ravel(), minlength=3)
    assert found.volumes_ml["vessel"] == pytest.approx(counts[2] * 0.9 * 1.1 * 1.5 / 1000, rel=1e-4)
    found.save(tmp_path / "mask.dcm")
    out = predicted(series, tmp_path / "out", largest=True, dicom=FORMS, probabilities=Probabilities())
    np.testing.assert_array_equal(nibabel.load(out / "masks/ct.nii.gz").dataobj, found.mask.dataobj)
    shares = nibabel.load(out / "probabilities/ct.nii.gz")
    np.testing.assert_allclose(shares.get_fdata(), found.probabilities.get_fdata(), atol=1e-6)
    np.testing.assert_allclose(shares.affine, place, atol=1e-5)


def test_frames_of_a_series_in_time(predictor: VolumePredictor, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", np.stack([VOXELS, VOXELS[::-1]], axis=-1), PLACE)
    with raises_one_line(ValueError, path, "4D", "--frame"):
        predictor.predict(path)
    each = [np.asarray(predictor.predict((voxels, PLACE)).mask.dataobj) for voxels in (VOXELS, VOXELS[::-1])]
    folder = Folder(tmp_path / "out", [network()], PLAN, {}, largest=True)
    assert folder.predict_all(folder.survey(by_frame(find_cases(path), "all")), io.StringIO()) == {}
    for number, mask in enumerate(each):
        np.testing.assert_array_equal(np.asarray(predictor.predict(path, frame=number).mask.dataobj), mask)
        written = nibabel.load(tmp_path / f"out/masks/a_t{number:03d}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), mask)


def test_nan_and_channels(tmp_path: Path) -> None:
    """Tests that NaN is read as the plan says, and channels are the last axis of an array, or a file for each."""
    voxels = VOXELS.astype(np.float32)
    voxels[0] = np.nan
    with raises_one_line(ValueError, "the array", "88 voxels of NaN", "nan_background"):
        VolumePredictor([network()], PLAN).predict((voxels, PLACE))
    filled = VolumePredictor([network()], PLAN | dict(nan_background=0)).predict((voxels, PLACE))
    expected = VolumePredictor([network()], PLAN).predict((np.nan_to_num(voxels), PLACE))
    np.testing.assert_array_equal(np.asarray(filled.mask.dataobj), np.asarray(expected.mask.dataobj))

    plan = PLAN | dict(channels=["T1", "T2"], intensity=[dict(rule="zscore")] * 2)
    two = VolumePredictor([network(2)], plan)
    paths = [write_nifti(tmp_path / f"{n}.nii", VOXELS + n, PLACE) for n in range(2)]
    stacked = np.stack([VOXELS, VOXELS + 1], axis=-1)
    volumes = (paths, (stacked, nibabel.load(paths[0]).affine))
    np.testing.assert_array_equal(*(np.asarray(two.predict(volume).mask.dataobj) for volume in volumes))
    for volume in (paths[0], (VOXELS, PLACE)):
        with raises_one_line(ValueError, "1 of 2 channels"):
            two.predict(volume)


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        (VOXELS, ["affine", "(7, 8, 11)"]),
        ((VOXELS[0], PLACE), ["2D", "8 x 11", "three axes"]),
        ((VOXELS, np.eye(3)), ["(4, 4)", "(3, 3)"]),
        ((VOXELS, np.zeros((4, 4))), ["singular affine"]),
        ((VOXELS.astype(complex), PLACE), ["complex128", "real numbers"]),
        ((VOXELS[..., None] + np.zeros(3), PLACE), ["4D", "7 x 8 x 11 x 3", "1 channel"]),
        (nibabel.Nifti1Image(VOXELS[0], np.eye(4)), ["2D", "8 x 11"]),
        (3, ["int", "path"]),
        ([], ["path"]),
    ],
    ids=["no affine", "2D", "3 x 3", "singular", "complex", "channels", "2D image", "number", "no files"],
)
def test_inputs_that_are_refused(volume: Any, words: list[str], predictor: VolumePredictor) -> None:
    with raises_one_line(ValueError, *words):
        predictor.predict(volume)


def test_paths_and_names_that_are_refused(predictor: VolumePredictor, tmp_path: Path) -> None:
    with raises_one_line(FileNotFoundError, "nowhere.nii"):
        predictor.predict("nowhere.nii")
    with raises_one_line(ValueError, "'lung'", "background, organ, vessel"):
        predictor.predict((VOXELS, PLACE), probabilities=["lung"])
    with raises_one_line(FileNotFoundError, tmp_path, "inference.json", "load_predictor"):
        VolumePredictor.load(tmp_path)


@pytest.mark.parametrize("bits", [8, 16])
def test_chosen_probabilities_in_few_bits(bits: int, tmp_path: Path) -> None:
    path = write_nifti(tmp_path / "a.nii.gz", VOXELS, PLACE, endian=">")
    every = nibabel.load(
        predicted(path, tmp_path / "every", probabilities=Probabilities()) / "probabilities/a.nii.gz"
    ).get_fdata()
    chosen = Probabilities(["vessel", "background"], bits)
    image = nibabel.load(predicted(path, tmp_path / "some", probabilities=chosen) / "probabilities/a.nii.gz")
    assert image.get_data_dtype().itemsize == bits // 8 and image.shape == (*SHAPE, 2)
    step = 0.5 / (2**bits - 1)
    np.testing.assert_allclose(image.get_fdata(), every[..., [2, 0]], rtol=0, atol=step + 1e-6)
    np.testing.assert_array_equal(image.affine, nibabel.load(path).affine)
    with raises_one_line(ValueError, "'lung'", "probabilities"):
        predicted(path, tmp_path / "none", probabilities=Probabilities(["lung"]))
    with raises_one_line(ValueError, "8 or 16", "12"):
        Probabilities(bits=12)
