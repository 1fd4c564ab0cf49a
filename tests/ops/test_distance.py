"""Tests signed distances against scipy's, with spacings, unknown places, and structures that are absent."""

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from vil_dense.ops.distance import signed_distance


@pytest.mark.parametrize(
    ("grid", "spacing", "reach"), [((11, 14), (1.0, 1.0), 4.0), ((6, 9, 8), (2.5, 0.7, 1.0), 5.0), ((5, 5), (1, 1), 50)]
)
def test_it_is_scipy_s_distance_up_to_the_reach(
    grid: tuple[int, ...], spacing: tuple[float, ...], reach: float
) -> None:
    rng = np.random.default_rng(0)
    inside, known = rng.random((2, *grid)) < 0.2, rng.random((2, *grid)) < 0.8
    found = signed_distance(torch.from_numpy(inside), torch.from_numpy(known), reach, spacing)
    for part, structure, labelled in zip(found.numpy(), inside, known, strict=True):
        inner, outer = (
            distance_transform_edt(~targets, sampling=spacing)
            for targets in (structure & labelled, ~structure & labelled)
        )
        expected = np.where(structure, -outer, inner).clip(-reach, reach) / reach
        np.testing.assert_allclose(part, expected, atol=1e-6)


def test_a_structure_that_is_absent_or_everywhere_has_the_largest_distance() -> None:
    known = torch.ones(1, 4, 4, dtype=torch.bool)
    assert (signed_distance(~known, known, 2.0, (1, 1)) == 1).all()
    assert (signed_distance(known, known, 2.0, (1, 1)) == -1).all()
    assert torch.isfinite(signed_distance(known, ~known, 2.0, (1, 1))).all()
