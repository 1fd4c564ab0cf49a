"""Tests paired differences: the test of Wilcoxon, an interval that covers the mean, missing values."""

import math

import numpy as np
import pytest
from refusals import raises_one_line

from vil_dense.report import paired_difference


def test_exact_p_and_missing_values() -> None:
    """Compares eight cases, each worse by another amount: the exact two-sided p is 2 / 2^8. The ninth lacks a value."""
    first = [*np.arange(8.0), math.nan]
    other = [x - (n + 1) / 10 for n, x in enumerate(first)]
    found = paired_difference(first, other)
    assert found.cases == 8 and found.p == pytest.approx(2 / 2**8)
    assert found.mean == pytest.approx(-0.45) and found.low < found.mean < found.high < 0


def test_interval_is_that_of_the_mean() -> None:
    rng = np.random.default_rng(0)
    found = paired_difference(np.zeros(400), rng.normal(0.3, 2, 400))
    half = (found.high - found.low) / 2
    assert half == pytest.approx(1.96 * 2 / 20, rel=0.1)
    assert found == paired_difference(np.zeros(400), np.random.default_rng(0).normal(0.3, 2, 400))


def test_equal_runs_have_no_p() -> None:
    found = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert found.mean == found.low == found.high == 0 and math.isnan(found.p)


def test_nothing_to_compare_is_refused() -> None:
    with raises_one_line(ValueError):
        paired_difference([math.nan], [1.0])
    with raises_one_line(ValueError, 1, 2):
        paired_difference([1.0], [1.0, 2.0])
