"""What a plan does to a file, and that chance is drawn anew for every sample and epoch, in every worker."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import LoadImaged
from nifti_files import affine, write_nifti

from vil_dense.medical.data.transforms import (
    augmentation,
    axes_in,
    draw,
    normalise,
    plain,
    preprocess,
    read_plan,
    training_cases,
)

PLAN = dict(
    channels=["MR"],
    labels=dict(background=0, a=1, b=2),
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch_vox=(8, 8, 8),
    intensity=[dict(rule="zscore")],
)


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


def test_preprocess_turns_resamples_and_normalises(files: dict) -> None:
    item = preprocess(PLAN)(files)
    assert item["image"].shape == item["label"].shape == (1, 6, 9, 23)  # 2 mm slices to 1 mm
    assert item["image"].dtype == torch.float32 and item["label"].dtype == torch.uint8
    torch.testing.assert_close(item["image"].mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(item["image"].std(correction=0), torch.tensor(1.0))
    place = item["image"].affine[:3, :3]
    torch.testing.assert_close(place, torch.eye(3, dtype=place.dtype))
    # LPS to RAS mirrors the first two axes: the one voxel of class 2 lies at (4, 6) of (6, 9).
    assert set(np.argwhere(plain(item["label"])[0].numpy() == 2)[:, :2].ravel().tolist()) == {1, 2}
    assert {*preprocess(PLAN, ("image",))(dict(files, label="nowhere"))} == {*files}


@pytest.mark.parametrize("orientation", ["RAS", "PSR", "ILA"])
@pytest.mark.parametrize("own", ["RAS", "LPS", "SAR", "oblique"])
def test_axes_are_those_that_the_turn_gives(orientation: str, own: str, tmp_path: Path) -> None:
    image = np.zeros((3, 4, 5), np.float32)
    path = write_nifti(tmp_path / "i.nii", image, affine(own))
    turned = preprocess(dict(PLAN, orientation=orientation, spacing_mm=(1, 1, 1)), ("image",)).transforms[1](
        LoadImaged("image", ensure_channel_first=True)(dict(image=str(path)))
    )
    assert [image.shape[axis] for axis in axes_in(orientation, affine(own))] == list(turned["image"].shape[1:])


def test_channels_in_one_file_or_in_one_each_are_the_same(files: dict, tmp_path: Path) -> None:
    plan = dict(PLAN, channels=["a", "b"], intensity=[dict(rule="range", low=0, high=200)] * 2)
    rng = np.random.default_rng(1)
    both = rng.uniform(0, 200, (6, 9, 12, 2)).astype(np.float32)
    place = affine("LPS", (1.0, 1.0, 2.0))
    paths = [str(write_nifti(tmp_path / f"c_000{n}.nii.gz", both[..., n], place)) for n in range(2)]
    four = str(write_nifti(tmp_path / "c.nii.gz", both, place))
    one, each = (preprocess(plan)(dict(files, image=image))["image"] for image in (four, paths))
    assert one.shape == (2, 6, 9, 23)
    torch.testing.assert_close(plain(each), plain(one))


def test_training_cases_are_padded_to_the_patch_and_know_their_classes(files: dict) -> None:
    item = training_cases(dict(PLAN, patch_vox=(16, 8, 8)))(files)
    assert item["image"].shape == (1, 16, 9, 23)
    assert [len(places) for places in item["label_cls_indices"]][2] == int((item["label"] == 2).sum()) > 0


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


def test_draws_depend_on_seed_epoch_and_sample_alone(files: dict) -> None:
    case, augment = training_cases(PLAN)(files), augmentation(PLAN, prob=1.0, intensity_prob=1.0)
    keys = [(seed, epoch, number) for seed in (0, 1) for epoch in (0, 1) for number in (0, 1)]
    patches = [draw(augment, case, *key)["image"] for key in keys]
    for one in range(len(keys)):
        again = draw(augmentation(PLAN, prob=1.0, intensity_prob=1.0), case, *keys[one])["image"]
        assert torch.equal(patches[one], again)
        assert not any(torch.equal(patches[one], patches[other]) for other in range(one)), keys[one]


def test_a_patch_is_plain_and_keeps_image_and_label_together(files: dict) -> None:
    case = training_cases(PLAN)(files)
    case["image"] = case["label"].float()  # so that the patch's image shows where its label should be
    patch = draw(augmentation(PLAN, prob=0, intensity_prob=0), case, 0, 0, 0)
    assert type(patch["image"]) is type(patch["label"]) is torch.Tensor
    assert patch["image"].shape == patch["label"].shape == (1, 8, 8, 8) and patch["label"].dtype == torch.int64
    torch.testing.assert_close(patch["image"].long(), patch["label"])


def test_foreground_is_as_frequent_as_asked(files: dict) -> None:
    plan = dict(PLAN, patch_vox=(4, 4, 4))
    case = training_cases(plan)(files)
    for foreground, fewest, most in ((1.0, 1.0, 1.0), (0.0, 0.0, 0.7)):
        augment = augmentation(plan, foreground=foreground, prob=0, intensity_prob=0)
        share = np.mean([bool(draw(augment, case, 0, 0, n)["label"].any()) for n in range(30)])
        assert fewest <= share <= most, (foreground, share)


def test_plan_from_a_file_and_its_faults(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(dict(plan=PLAN, data={})))
    assert read_plan(path) == json.loads(json.dumps(PLAN))
    for change, message in (
        (dict(labels=dict(a=1, b=2)), "labels are 0, 1, [.]{3} without a gap"),
        (dict(spacing_mm=(1, 1)), "spacing_mm has three positive numbers"),
        (dict(intensity=[]), "a rule for each of 1 channels"),
        (dict(intensity=[dict(rule="hist")]), "unknown intensity rule 'hist'; known: zscore, ct, range"),
    ):
        with pytest.raises(ValueError, match=message):
            read_plan({**PLAN, **change})
    with pytest.raises(ValueError, match="missing: intensity"):
        read_plan({key: value for key, value in PLAN.items() if key != "intensity"})
    with pytest.raises(FileNotFoundError, match=r"tools/volumes/plan\.py DATA --out"):
        read_plan(tmp_path / "none.json")
