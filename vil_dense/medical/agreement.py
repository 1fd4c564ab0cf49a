"""Compares what was measured with the truth: volumes by Bland and Altman, and uncertainty by rank correlation."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vil_dense.medical.metrics import Score

LIMIT = 1.96
"""Standard deviations between the bias and a limit of agreement: 95 % of normally distributed differences."""


class Agreement(NamedTuple):
    """Holds how predicted volumes of a structure differ from the true ones, in ml (Bland and Altman, Lancet 1986)."""

    cases: int
    bias: float  # mean of predicted minus true
    low: float  # limits of agreement; NaN of fewer than two cases
    high: float


def volume_agreement(scores: Sequence[Score]) -> dict[str, Agreement]:
    """Returns the agreement of each structure, over the cases in which truth or prediction has it."""
    found = {}
    for name in dict.fromkeys(score.structure for score in scores):
        own = [score for score in scores if score.structure == name and score.outcome != "absent"]
        if own:
            differences = np.array([score.predicted_ml - score.truth_ml for score in own])
            bias = float(differences.mean())
            spread = LIMIT * float(differences.std(ddof=1)) if len(own) > 1 else math.nan
            found[name] = Agreement(len(own), bias, bias - spread, bias + spread)
    return found


def mean_dice(scores: Sequence[Score]) -> dict[str, float]:
    """Returns the mean Dice of each case over its structures, those that are absent left out; NaN if all are."""
    found: dict[str, list[float]] = {}
    for score in scores:
        found.setdefault(score.case, []).extend([] if score.dice is None else [score.dice])
    return {case: float(np.mean(values)) if values else math.nan for case, values in found.items()}


def uncertainty_correlation(numbers: Mapping[str, Mapping[str, float]], scores: Sequence[Score]) -> dict[str, Any]:
    """Returns Spearman's rank correlation of each measure of uncertainty with the mean Dice of the case.

    Args:
        numbers: of each case that has some, by measure, see `inference.uncertainty`.

    Returns:
        By measure `cases`, `spearman` and `p` (two-sided); empty with fewer than three cases, or where all cases have
        the same number or the same Dice. A useful measure has a correlation near -1.
    """
    from scipy.stats import spearmanr

    dice = {case: value for case, value in mean_dice(scores).items() if not math.isnan(value)}
    found = {}
    for name in dict.fromkeys(name for own in numbers.values() for name in own):
        pairs = [(own[name], dice[case]) for case, own in numbers.items() if name in own and case in dice]
        if len(pairs) > 2 and all(len({*column}) > 1 for column in zip(*pairs, strict=True)):
            result = spearmanr(*zip(*pairs, strict=True))
            found[name] = dict(cases=len(pairs), spearman=float(result.statistic), p=float(result.pvalue))
    return found


def describe_correlation(found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Returns a sentence on each measure of `uncertainty_correlation`."""
    return {
        name: f"Spearman's correlation of the {name.replace('_', ' ')} with the mean Dice is {one['spearman']:.2f} "
        f"({one['cases']} cases, p {one['p']:.2g})."
        for name, one in found.items()
    }
