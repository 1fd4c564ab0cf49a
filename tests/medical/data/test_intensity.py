"""Tests the rules of intensities on values that follow by hand."""

import pytest
import torch

from vil_dense.medical.data.intensity import normalise


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
