"""Tests the plan's grid over a file, whatever its axes, and compares resampling slab by slab with MONAI's."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing
from nifti_files import affine

from vil_dense.medical.data import preprocess
from vil_dense.medical.data.preprocess import Axis, PlanGrid, linear, nearest, network_input, new_axes, new_length

PLAN = dict(orientation="RAS", spacing_mm=(1.0, 1.0, 1.0), intensity=[dict(rule="zscore")])


def test_a_volume_is_oriented_resampled_and_normalised() -> None:
    image = np.random.default_rng(0).normal(100, 20, (1, 6, 9, 12)).astype(np.float32)
    label = np.zeros((6, 9, 12), np.uint8)
    label[4, 6, 9] = 2
    grid = PlanGrid.over(label.shape, affine("LPS", (1.0, 1.0, 2.0)), PLAN)
    assert grid.shape == (6, 9, 23) and grid.file_shape == (6, 9, 12)  # 2 mm slices to 1 mm
    found = network_input(image, grid, PLAN)
    assert found.shape == (1, *grid.shape) and found.dtype == torch.float32
    torch.testing.assert_close(found.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(correction=0), torch.tensor(1.0))
    # LPS to RAS mirrors the first two axes: the one voxel of class 2 lies at (4, 6) of (6, 9).
    assert set(np.argwhere(grid.label(label).numpy() == 2)[:, :2].ravel().tolist()) == {1, 2}


@pytest.mark.parametrize("own", ["RAS", "LPS", "PSR", "oblique"])
def test_what_is_written_in_the_plans_frame_lands_in_the_files(own: str) -> None:
    voxels = np.zeros((3, 4, 5), np.int64)
    grid = PlanGrid.over(voxels.shape, affine(own, (1.0, 2.0, 3.0)), PLAN)
    view = grid.oriented(voxels)
    assert view.shape == grid.file_shape
    view[...] = np.arange(60).reshape(grid.file_shape)
    assert sorted(voxels.ravel()) == list(range(60))
    np.testing.assert_array_equal(grid.oriented(voxels), np.arange(60).reshape(grid.file_shape))


def test_the_axes_back_end_on_the_files_voxels() -> None:
    grid = PlanGrid.over((6, 9, 12), affine("LPS", (0.7, 1.0, 2.5)), PLAN)
    assert [len(axis.lower) for axis in grid.axes_back()] == [6, 9, 12]
    assert [axis.old for axis in grid.axes_back()] == list(grid.shape)


@pytest.mark.parametrize("slab_bytes", [1, 2**20])
@pytest.mark.parametrize(
    ("before", "after"),
    [((1, 1, 1), (1, 1, 1)), ((0.7, 1.3, 5), (1, 1, 1)), ((1, 1, 1), (0.6, 1.4, 2.5)), ((2, 1, 1), (1, 1, 1))],
    ids=str,
)
def test_what_monai_gives(before: tuple, after: tuple, slab_bytes: int) -> None:
    volume = np.random.default_rng(0).normal(size=(2, 9, 14, 7)).astype(np.float32)
    image = MetaTensor(torch.from_numpy(volume), affine=torch.diag(torch.tensor([*before, 1.0], dtype=torch.float64)))
    expected = Spacing(pixdim=after, mode="bilinear", padding_mode="border")(image).as_tensor()
    with patch.object(preprocess, "SLAB_BYTES", slab_bytes):
        found = linear(volume, new_axes(volume.shape[1:], before, after))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("before", "after"), [((0.7, 1.3, 5), (1, 1, 1)), ((1, 1, 1), (0.6, 1.4, 2.3))], ids=str)
def test_labels_are_monais_nearest_ones(before: tuple, after: tuple) -> None:
    """Compares at spacings that put no new voxel in the middle between two old ones."""
    labels = np.random.default_rng(0).integers(0, 5, (9, 14, 7)).astype(np.uint8)
    place = torch.diag(torch.tensor([*before, 1.0], dtype=torch.float64))
    given = MetaTensor(torch.from_numpy(labels)[None], affine=place)
    expected = Spacing(pixdim=after, mode="nearest", padding_mode="border")(given).as_tensor()[0]
    found = nearest(labels, new_axes(labels.shape, before, after))
    assert found.dtype == torch.uint8
    torch.testing.assert_close(found, expected.to(torch.uint8), rtol=0, atol=0)


def test_of_two_labels_as_near_the_lower_one_is_taken() -> None:
    axis = Axis.between(3, 5, 0.5)
    assert nearest(np.arange(3)[:, None, None], [axis, *new_axes((1, 1), (1, 1), (1, 1))]).flatten().tolist() == [
        0, 0, 1, 1, 2,
    ]  # fmt: skip


def test_views_of_any_stride() -> None:
    volume = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype(np.float32)
    turned = volume.transpose(0, 3, 1, 2)[:, ::-1, :, ::-1]
    axes = new_axes(turned.shape[1:], (1, 1, 2), (1, 2, 1))
    torch.testing.assert_close(linear(turned, axes), linear(turned.copy(), axes))
    torch.testing.assert_close(nearest(turned[0], axes), nearest(turned[0].copy(), axes))


def test_a_linear_ramp_stays_one() -> None:
    """Tests that values are those at the new places; past the last old voxel the last value is repeated."""
    axis = Axis.between(5, new_length(5, 1.0, 0.75), 0.75)
    ramp = axis.apply(torch.arange(5.0)[None], 1)[0]
    torch.testing.assert_close(ramp, torch.tensor([0, 0.75, 1.5, 2.25, 3.0, 3.75]))
    beyond = Axis.between(5, 7, 0.75).apply(torch.arange(5.0)[None], 1)[0]
    torch.testing.assert_close(beyond[-1], torch.tensor(4.0))


def test_rounding_in_a_header_moves_nothing() -> None:
    volume = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype(np.float32)
    found = linear(volume, new_axes((6, 7, 8), (1, 0.999999, 7.499999), (1, 1, 7.5)))
    np.testing.assert_array_equal(found.numpy(), volume)
