"""Tests the plan's grid over a file, whatever the file's axes."""

import numpy as np
import pytest
import torch
from nifti_files import affine

from vil_dense.medical.data.preprocess import PlanGrid, network_input

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
