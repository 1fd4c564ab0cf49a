"""Compares resampling slab by slab with MONAI's."""

from unittest.mock import patch

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing

from vil_dense.medical.data import preprocess
from vil_dense.medical.data.preprocess import Axis, linear, nearest, new_axes, new_length


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
