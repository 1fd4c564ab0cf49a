"""Tests the way from files to training patches, which are drawn anew for every sample and epoch, in every worker."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged, Orientationd, Spacingd
from nifti_files import affine, write_nifti
from refusals import raises_one_line
from volume_plans import small_plan

from vil_dense.medical.data.intensity import normalise
from vil_dense.medical.data.transforms import (
    KEYS,
    LoadCased,
    ToPlanGridd,
    augmentation,
    sample_patch,
    training_cases,
    training_patches,
)
from vil_dense.medical.io.geometry import AXIS_NAMES

PLAN = small_plan("a", "b")


@pytest.fixture
def files(tmp_path: Path) -> dict:
    rng = np.random.default_rng(0)
    image = rng.normal(100, 20, (6, 9, 12)).astype(np.float32)
    label = np.zeros((6, 9, 12), np.uint8)
    label[1:3, 2:5, 3:6], label[4, 6, 9] = 1, 2
    place = affine("LPS", (1.0, 1.0, 2.0))
    write_nifti(tmp_path / "i.nii.gz", image, place)
    write_nifti(tmp_path / "l.nii.gz", label, place)
    return dict(name="case", image=str(tmp_path / "i.nii.gz"), label=str(tmp_path / "l.nii.gz"))


def test_a_case_is_read_onto_its_own_grid(files: dict) -> None:
    item = LoadCased(KEYS, PLAN)(files)
    assert item["image"].dtype == torch.float32 and item["label"].dtype == torch.uint8
    assert item["image"].shape == item["label"].shape == (1, 6, 9, 12) and item["name"] == "case"
    np.testing.assert_allclose(item["image"].affine, affine("LPS", (1.0, 1.0, 2.0)))
    assert item["image"].meta["filename_or_obj"] == str(Path(files["image"]).with_name("case.nii.gz")), "of the case"
    alone = LoadCased(("image",), PLAN)(dict(image=files["image"], label="nowhere"))
    assert alone["label"] == "nowhere" and torch.equal(alone["image"].as_tensor(), item["image"].as_tensor())
    with raises_one_line(ValueError, "case i", "i.nii.gz", "1", "2"):
        LoadCased(("image",), dict(PLAN, channels=["a", "b"]))(dict(image=files["image"]))


@pytest.mark.parametrize("orientation", ["RAS", "PSR", "ILA"])
def test_the_plans_grid_is_that_of_monais_transforms(files: dict, orientation: str) -> None:
    plan = dict(PLAN, orientation=orientation, spacing_mm=(1.37, 0.93, 1.15))  # no new voxel midway between two
    found = ToPlanGridd(KEYS, plan)(LoadCased(KEYS, plan)(files))
    expected = LoadImaged(KEYS, ensure_channel_first=True)(files)
    for step in (
        Orientationd(KEYS, axcodes=orientation, labels=AXIS_NAMES),
        Spacingd(KEYS, pixdim=plan["spacing_mm"], mode=("bilinear", "nearest"), padding_mode="border"),
    ):
        expected = step(expected)
    image = normalise(expected["image"].as_tensor(), plan["intensity"])
    torch.testing.assert_close(found["image"], image, rtol=1e-4, atol=1e-4)
    assert type(found["image"]) is torch.Tensor and found["label"].dtype == torch.uint8
    torch.testing.assert_close(found["label"].float(), expected["label"].as_tensor(), rtol=0, atol=0)
    assert (found["label"] == 1).any()


def test_channels_in_one_file_or_in_one_each_are_the_same(files: dict, tmp_path: Path) -> None:
    plan = dict(PLAN, channels=["a", "b"], intensity=[dict(rule="range", low=0, high=200)] * 2)
    rng = np.random.default_rng(1)
    both = rng.uniform(0, 200, (6, 9, 12, 2)).astype(np.float32)
    place = affine("LPS", (1.0, 1.0, 2.0))
    paths = [str(write_nifti(tmp_path / f"c_000{n}.nii.gz", both[..., n], place)) for n in range(2)]
    four = str(write_nifti(tmp_path / "c.nii.gz", both, place))
    one, each = (training_cases(plan)(dict(files, image=image))["image"] for image in (four, paths))
    assert one.shape == (2, 8, 9, 23)
    torch.testing.assert_close(each.as_tensor(), one.as_tensor())


def test_training_cases_are_padded_to_the_patch_and_know_their_classes(files: dict) -> None:
    item = training_cases(dict(PLAN, patch_vox=(16, 8, 8)))(files)
    assert item["image"].shape == (1, 16, 9, 23)
    assert [len(places) for places in item["label_cls_indices"]][2] == int((item["label"] == 2).sum()) > 0


def test_draws_depend_on_seed_epoch_and_sample_alone(files: dict) -> None:
    case, augment = training_cases(PLAN)(files), augmentation(PLAN, prob=1.0, intensity_prob=1.0)
    keys = [(seed, epoch, number) for seed in (0, 1) for epoch in (0, 1) for number in (0, 1)]
    patches = [sample_patch(augment, case, *key)["image"] for key in keys]
    for one in range(len(keys)):
        again = sample_patch(augmentation(PLAN, prob=1.0, intensity_prob=1.0), case, *keys[one])["image"]
        assert torch.equal(patches[one], again)
        assert not any(torch.equal(patches[one], patches[other]) for other in range(one)), keys[one]


def test_a_patch_is_plain_and_keeps_image_and_label_together(files: dict) -> None:
    case = training_cases(PLAN)(files)
    case["image"] = case["label"].float()  # so that the patch's image shows where its label should be
    patch = sample_patch(augmentation(PLAN, prob=0, intensity_prob=0), case, 0, 0, 0)
    assert type(patch["image"]) is type(patch["label"]) is torch.Tensor
    assert patch["image"].shape == patch["label"].shape == (1, 8, 8, 8) and patch["label"].dtype == torch.int64
    torch.testing.assert_close(patch["image"].long(), patch["label"])


def test_foreground_is_as_frequent_as_asked(files: dict) -> None:
    plan = dict(PLAN, patch_vox=(4, 4, 4))
    case = training_cases(plan)(files)
    for foreground, fewest, most in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.7)):
        augment = augmentation(plan, foreground=foreground, prob=0, intensity_prob=0)
        share = np.mean([bool(sample_patch(augment, case, 0, 0, n)["label"].any()) for n in range(30)])
        assert fewest <= share <= most, (foreground, share)


def test_more_than_256_classes(tmp_path: Path) -> None:
    """Tests that the labels 1 to 299 reach the patch as they are."""
    shape = (20, 20, 20)
    label = np.resize(np.arange(300, dtype=np.uint16), shape)
    item = dict(
        image=str(write_nifti(tmp_path / "image.nii.gz", np.zeros(shape, np.float32))),
        label=str(write_nifti(tmp_path / "label.nii.gz", label)),
    )
    plan = small_plan(*(f"class {n}" for n in range(1, 300)), patch_vox=shape)
    patch = training_patches(plan, prob=0, intensity_prob=0, flip_axes=())(item)[0]
    assert torch.equal(torch.as_tensor(patch["label"])[0].long(), torch.from_numpy(label.astype(int)))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (dict(rule="ct", low=0, high=10, mean=5, std=5), [-1.0, 0.0, 1.0]),
        (dict(rule="range", low=0, high=20), [0, 0.25, 1]),
        (dict(rule="zscore"), [-1.1111, -0.2020, 1.3131]),
        (dict(rule="zscore", nonzero=True), [-1.1111, -0.2020, 1.3131]),
    ],
)
def test_intensity_rules(rule: dict, expected: list) -> None:
    x = torch.tensor([-10.0, 5, 30]).view(1, 3, 1, 1)
    torch.testing.assert_close(normalise(x, [rule]).flatten(), torch.tensor(expected), atol=1e-4, rtol=0)


def test_nonzero_leaves_the_outside_at_zero() -> None:
    x = torch.tensor([0.0, 0, 4, 8]).view(1, 4, 1, 1)
    assert normalise(x, [dict(rule="zscore", nonzero=True)]).flatten().tolist() == [0, 0, -1, 1]
    assert not normalise(torch.zeros(1, 2, 2, 2), [dict(rule="zscore", nonzero=True)]).any()
    assert torch.isfinite(normalise(torch.ones(1, 2, 2, 2), [dict(rule="zscore")])).all()
