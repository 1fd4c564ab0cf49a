"""Tests the coarse grid of `make_left_atrium.py`, and a source that is not complete."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from refusals import raises_one_line

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("spacing_mm", [0.625, 2.0, 7.0])
def test_a_coarse_voxel_lies_in_the_middle_of_what_it_covers(spacing_mm: float) -> None:
    tool = runpy.run_path(str(ROOT / "tools/dataset_converters/make_left_atrium.py"))
    shape = (64, 48, 32)
    places_mm = tool["SOURCE_MM"] * np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    for axis, volume in enumerate(places_mm):
        coarse, affine = tool["coarsen"](volume, spacing_mm)
        expected_mm = affine[axis, axis] * np.arange(coarse.shape[axis]) + affine[axis, 3]
        found_mm = np.moveaxis(coarse, axis, 0).reshape(len(expected_mm), -1)
        # A voxel that covers a part of a source voxel takes it as a whole, so that places vary by less than one.
        assert np.abs(found_mm - expected_mm[:, None]).max() <= tool["SOURCE_MM"]
        assert abs(found_mm.mean() - volume.mean()) < 0.1


def test_a_listed_case_without_a_volume_is_named(tmp_path: Path) -> None:
    tool = runpy.run_path(str(ROOT / "tools/dataset_converters/make_left_atrium.py"))
    with raises_one_line(FileNotFoundError, tmp_path, "CASE7"):
        tool["find_volume"](tmp_path, "CASE7")
