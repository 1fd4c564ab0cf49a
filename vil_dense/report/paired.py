"""Compares two runs on the same pictures or cases."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 5000


class Paired(NamedTuple):
    """Holds the mean of paired differences, its 95 % bootstrap interval and the two-sided p of Wilcoxon's test."""

    cases: int
    mean: float
    low: float
    high: float
    p: float


def paired_difference(first: Sequence[float], other: Sequence[float], seed: int = 0) -> Paired:
    """Returns how `other` differs from `first`, values of the same cases in the same order.

    Pairs with NaN are left out. The interval has the 2.5th and the 97.5th percentile of the mean over resampled cases.
    p is that of Wilcoxon's signed-rank test, NaN where no case differs.

    Raises:
        ValueError: no pair is left, or the lengths differ.
    """
    from scipy.stats import wilcoxon

    if len(first) != len(other):
        raise ValueError(f"paired values were expected, got {len(first)} and {len(other)}")
    difference = np.asarray(other, dtype=float) - np.asarray(first, dtype=float)
    difference = difference[~np.isnan(difference)]
    if not difference.size:
        raise ValueError("the runs have no case in common that has a value in both")
    rng = np.random.default_rng(seed)
    means = [rng.choice(difference, difference.size).mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    p = float(wilcoxon(difference).pvalue) if difference.any() else math.nan
    return Paired(difference.size, float(difference.mean()), float(low), float(high), p)
