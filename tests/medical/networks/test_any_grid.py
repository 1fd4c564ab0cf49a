"""Tests what holds for a volume of any size, spacing, orientation and dtype, on drawn examples; the draws are fixed."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nifti_files import affine, write_nifti
from torch import nn
from volume_plans import small_plan

from vil_dense.medical.inference.volume_predictor import predict
from vil_dense.medical.io.volumes import read_image, read_label, write_mask

# Every way to name three axes, each from either end.
ORIENTATIONS = [
    "".join(ends)
    for axes in itertools.permutations(("RL", "AP", "SI"))
    for ends in itertools.product(*axes)
]  # fmt: skip
RANGE = dict(rule="range", low=0, high=2)
DTYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64"]


class Rounded(nn.Module):
    """Returns logits of the three classes whose number is nearest to twice the voxel's value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -((2 * x - torch.arange(3.0).view(1, -1, 1, 1, 1)) ** 2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3), spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    orientation=st.sampled_from(ORIENTATIONS), plan_orientation=st.sampled_from(ORIENTATIONS),
    dtype=st.sampled_from(DTYPES), endian=st.sampled_from("<>"), suffix=st.sampled_from([".nii", ".nii.gz"]),
    same=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_mask_lies_on_the_grid_of_its_image(
    shape: tuple, spacing: tuple, orientation: str, plan_orientation: str, dtype: str, endian: str, suffix: str,
    same: bool, seed: int,
):  # fmt: skip
    """Tests that it does, and that it equals the truth where nothing is resampled."""
    truth = np.random.default_rng(seed).integers(0, 3, shape)
    place = affine(orientation, spacing)
    with tempfile.TemporaryDirectory() as folder:
        stored = truth.astype(np.dtype(dtype).newbyteorder(endian))
        image, grid = read_image([write_nifti(Path(folder) / f"a{suffix}", stored, place, endian=endian)])
        # of the file's axes, in the order of the plan's
        order = [next(n for n, end in enumerate(orientation) if end in pair) for pair in pairs(plan_orientation)]
        spacing = [grid.spacing_mm[axis] for axis in order] if same else (1.5, 1.0, 2.0)
        plan = small_plan("one", "two", orientation=plan_orientation, spacing_mm=spacing, intensity=[RANGE])
        found = predict([Rounded()], image, grid.affine, plan)
        write_mask(Path(folder) / f"mask{suffix}", found, grid)
        mask, mask_grid = read_label(Path(folder) / f"mask{suffix}", (0, 1, 2))
    assert mask.shape == shape
    np.testing.assert_array_equal(mask_grid.affine, grid.affine)
    np.testing.assert_allclose(grid.affine, place, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(mask, found)
    if same:
        np.testing.assert_array_equal(mask, truth)


def pairs(orientation: str) -> list[str]:
    """Returns both ends of each axis."""
    return [next(pair for pair in ("RL", "AP", "SI") if end in pair) for end in orientation]
