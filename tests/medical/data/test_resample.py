"""Resampling by slab: MONAI's values, in less memory."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing

from vil_dense.medical.data import resample
from vil_dense.medical.data.resample import Axis, new_length, to_spacing


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
    with patch.object(resample, "SLAB_BYTES", slab_bytes):
        found = to_spacing(volume, before, after)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_views_of_any_stride() -> None:
    volume = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype(np.float32)
    turned = volume.transpose(0, 3, 1, 2)[:, ::-1, :, ::-1]
    torch.testing.assert_close(
        to_spacing(turned, (1, 1, 2), (1, 2, 1)), to_spacing(turned.copy(), (1, 1, 2), (1, 2, 1))
    )


def test_a_linear_ramp_stays_one() -> None:
    """Values are those at the new voxels' places; past the last old voxel the last value is repeated."""
    axis = Axis.between(5, new_length(5, 1.0, 0.75), 0.75)
    ramp = axis.apply(torch.arange(5.0)[None], 1)[0]
    torch.testing.assert_close(ramp, torch.tensor([0, 0.75, 1.5, 2.25, 3.0, 3.75]))
    beyond = Axis.between(5, 7, 0.75).apply(torch.arange(5.0)[None], 1)[0]
    torch.testing.assert_close(beyond[-1], torch.tensor(4.0))


def test_rounding_in_a_header_moves_nothing() -> None:
    volume = np.random.default_rng(0).normal(size=(1, 6, 7, 8)).astype(np.float32)
    found = to_spacing(volume, (1, 0.999999, 7.499999), (1, 1, 7.5))
    np.testing.assert_array_equal(found.numpy(), volume)
