"""Tests the mask of a first stage as channels: on the grid of the image in training and prediction, and its changes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from nifti_files import affine, write_nifti
from refusals import raises_one_line
from torch import Tensor, nn
from volume_plans import small_plan

from vil_dense.medical.data.first_stage import OPERATIONS, AddFirstStaged, grow, shrink, structure_channels
from vil_dense.medical.data.transforms import LoadCased, augmentation, sample_patch, training_cases
from vil_dense.medical.inference.volume_predictor import predict

GROUPS = [[1, 300], [7]]
KEYS = ("image", "label", "first_stage")
PLAN = small_plan("a", "b", patch_vox=(12, 10, 8), first_stage=GROUPS)


def write_case(root: Path, place: np.ndarray) -> dict:
    """Writes an image, a label with the classes 1 and 2, and a mask with the same structures as 300 and 7."""
    label = np.zeros((11, 13, 9), np.uint8)
    label[2:7, 3:9, 1:6], label[7:10, 5:12, 4:8] = 1, 2
    image = (100.0 * label).astype(np.float32)
    mask = np.array([0, 300, 7], np.uint16)[label]
    files = {
        key: str(write_nifti(root / f"{key}.nii.gz", voxels, place))
        for key, voxels in (("image", image), ("label", label), ("first_stage", mask))
    }
    return dict(name="case", **files)


@pytest.mark.parametrize("orientation", ["RAS", "PSR", "oblique"])
def test_training_patches_show_the_mask_where_the_image_is(orientation: str, tmp_path: Path) -> None:
    """Checks resampling, crop, rotation and mirroring; the changes of intensity leave the structures 0 and 1."""
    plan = dict(PLAN, spacing_mm=(0.8, 1.1, 1.3), orientation="PIR")
    case = training_cases(plan)(write_case(tmp_path, affine(orientation, (1.0, 0.9, 1.2))))
    augment = augmentation(plan, prob=1.0, intensity_prob=1.0)
    augment.transforms[-1].change_prob = augment.transforms[-1].drop_prob = 0.0
    for index in range(6):
        patch = sample_patch(augment, case, 0, 0, index)
        assert patch["image"].shape == (3, 12, 10, 8) and "first_stage" not in patch
        expected = torch.cat([patch["label"] == value for value in (1, 2)])
        assert expected.any() and torch.equal(patch["image"][1:], expected.float())
    augment.transforms[-1].change_prob = augment.transforms[-1].drop_prob = 1.0
    first, again, other = (sample_patch(augment, case, 0, 0, index)["image"][1:] for index in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


class Answer(nn.Module):
    """Answers the structures that it sees beside the image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([0.5 * torch.ones_like(x[:, :1]), x[:, 1:]], 1)


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "oblique"])
def test_a_prediction_sees_the_mask_where_the_image_is(orientation: str) -> None:
    """Checks that a network that answers what it sees returns the mask on the grid of the file."""
    mask = np.zeros((11, 13, 9), np.uint8)
    mask[2:7, 3:9, 1:6], mask[7:10, 5:12, 4:8] = 1, 2
    plan, place = dict(PLAN, orientation="PIR", first_stage=[[1], [2]]), affine(orientation)
    image = np.zeros((1, *mask.shape), np.float32)
    np.testing.assert_array_equal(predict([Answer()], image, place, plan, first_stage=mask), mask)
    np.testing.assert_array_equal(predict([Answer()], image, place, plan, first_stage=mask, mirror=True), mask)
    with raises_one_line(ValueError, "first stage"):
        predict([Answer()], image, place, plan)


def test_a_mask_on_another_grid_is_refused(tmp_path: Path) -> None:
    case = write_case(tmp_path, affine())
    moved = str(write_nifti(tmp_path / "moved.nii.gz", np.zeros((11, 13, 9), np.uint8), affine("LPS")))
    with raises_one_line(ValueError, "case", "moved.nii.gz"):
        LoadCased(KEYS, PLAN)(dict(case, first_stage=moved))
    with raises_one_line(ValueError, "case", "first_stage.nii.gz", "300"):
        LoadCased(KEYS, dict(PLAN, first_stage=[[1], [7]]))(case)
    with raises_one_line(ValueError, "case", "no mask"):
        LoadCased(KEYS, PLAN)({key: value for key, value in case.items() if key != "first_stage"})


def test_regions_overlap() -> None:
    mask = np.arange(3)[:, None, None]
    np.testing.assert_array_equal(structure_channels(mask, [[1, 2], [2]]).squeeze(), [[0, 1, 1], [0, 0, 1]])


def test_changes_are_in_mm() -> None:
    """Checks that a ball of 2 mm is 2 voxels of 1 mm, and no slice of 3 mm beside it."""
    point = np.zeros((9, 9, 3), bool)
    point[4, 4, 1] = True
    ball = grow(point, 2.0, (1.0, 1.0, 3.0))
    assert ball.sum() == 13 and ball[2, 4, 1] and not ball[..., 0].any()
    np.testing.assert_array_equal(shrink(ball, 1.0, (1.0, 1.0, 3.0)), grow(point, 1.0, (1.0, 1.0, 3.0)))
    assert shrink(np.ones((3, 3, 3), bool), 8.0, (1.0, 1.0, 1.0)).all(), "no voxel outside is known"
    _, _, opened, closed = (operation(ball | np.roll(point, 4, 0), 1.5, (1.0, 1.0, 3.0)) for operation in OPERATIONS)
    assert not opened[8, 4, 1] and closed[8, 4, 1]


def test_structures_give_way_and_components_are_lost() -> None:
    """Tests that classes do not overlap after a change, and that only a component small beside the patch is lost."""
    mask = np.zeros((1, 20, 20, 20), np.uint8)
    mask[0, :10], mask[0, 10:], mask[0, 1:3, 1:3, 1:3] = 1, 7, 0
    mask[0, 18:, 18:, 18:] = 1
    data = dict(image=torch.zeros(1, 20, 20, 20), first_stage=torch.from_numpy(mask))
    change = AddFirstStaged(PLAN, change_prob=1.0, drop_prob=0.0).set_random_state(0)
    found = [change(data)["image"][1:].bool() for _ in range(8)]
    assert not any((both[0] & both[1]).any() for both in found)
    assert len({tuple(both.sum((1, 2, 3)).tolist()) for both in found}) > 4, "each is another one"
    lost = AddFirstStaged(PLAN, change_prob=0.0, drop_prob=1.0).set_random_state(0)(data)["image"][1:]
    assert lost[0, :10].sum() == (mask[0, :10] == 1).sum() and not lost[0, 18:].any()
    assert lost[1].sum() == (mask == 7).sum()
