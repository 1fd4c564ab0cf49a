"""Summarises scores over cases: bootstrap intervals, agreement of volumes, rank correlation of the uncertainty.

The mean of a set of scores is that of `metrics.summarise`: over the cases of a structure, where absent structures are
left out, and then over the structures. A draw of the bootstrap takes as many cases as there are, with replacement, and
computes this mean; an interval holds the middle 95 % of the draws. Cases of one patient are drawn together, as they are
not independent.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vil_dense.medical.datalists.folds import patient_of
from vil_dense.medical.metrics import VALUES, Score, Scoring, summarise

DRAWS = 2000
PERCENTILES = (2.5, 97.5)
LIMIT = 1.96
"""Standard deviations between the bias and a limit of agreement: 95 % of normally distributed differences."""


def scores_table(scores: Sequence[Score], value: str = "dice") -> tuple[list[str], list[str], np.ndarray]:
    """Returns the cases, the structures, and a value of each, (cases, structures) float64, NaN where it is absent."""
    cases, structures = ([*dict.fromkeys(getattr(score, key) for score in scores)] for key in ("case", "structure"))
    table = np.full((len(cases), len(structures)), np.nan)
    for score in scores:
        number = getattr(score, value)
        table[cases.index(score.case), structures.index(score.structure)] = np.nan if number is None else number
    return cases, structures, table


def draw_counts(patients: Sequence[str], draws: int = DRAWS) -> np.ndarray:
    """Returns how often each draw takes each case, (draws, cases) int64; the same for the same patients.

    Args:
        patients: the patient of each case.
    """
    names, place = np.unique(np.asarray(patients), return_inverse=True)
    chances = np.full(len(names), 1 / len(names))
    return np.random.default_rng(0).multinomial(len(names), chances, size=draws)[:, place]


def structure_means(table: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the mean of each structure in each draw, (draws, structures), NaN where a draw has no case with it.

    Args:
        table: (cases, structures), NaN where a structure is absent.
        counts: (draws, cases), how often a draw takes a case.
    """
    known = np.isfinite(table)
    totals, numbers = counts @ np.where(known, table, 0.0), counts @ known.astype(float)
    return np.divide(totals, numbers, out=np.full(totals.shape, np.nan), where=numbers > 0)


def mean_over_structures(means: np.ndarray) -> np.ndarray:
    """Returns the mean of (draws, structures) over the structures that are not NaN, (draws,), NaN if all are."""
    return structure_means(means.T, np.ones((1, means.shape[1])))[0] if means.size else np.full(len(means), np.nan)


def middle(draws: np.ndarray) -> list[float] | None:
    """Returns the two ends of the interval that holds the middle 95 % of the draws, None without any."""
    known = draws[np.isfinite(draws)]
    return [float(end) for end in np.percentile(known, PERCENTILES)] if len(known) else None


def summarise_with_intervals(
    scores: Sequence[Score],
    scoring: Scoring,
    patient: str | None = None,
    uncertainty: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Returns `metrics.summarise` with the interval of each mean beside it: `dice_95=[low, high]` beside `dice`.

    Args:
        scores: of all cases. With fewer than two patients the intervals are None.
        scoring: whose description is added.
        patient: see `folds.patient_of`.
        uncertainty: see `uncertainty_correlation`, which is added where there is one.
    """
    summary = summarise(scores)
    patients = [patient_of(case, patient) for case in dict.fromkeys(score.case for score in scores)]
    counts = draw_counts(patients)
    for value in VALUES:
        _, structures, table = scores_table(scores, value)
        means = structure_means(table, counts)
        several = len(set(patients)) > 1
        for column, name in enumerate(structures):
            summary["structures"][name][f"{value}_95"] = middle(means[:, column]) if several else None
        summary["mean"][f"{value}_95"] = middle(mean_over_structures(means)) if several else None
    unit = "cases" if len(set(patients)) == len(patients) else "patients"
    summary["interval"] = f"95 %, percentile bootstrap, {DRAWS} draws of {len(set(patients))} {unit}"
    correlation = uncertainty_correlation(uncertainty or {}, scores)
    return summary | scoring.described | (dict(uncertainty=correlation) if correlation else {})


class Agreement(NamedTuple):
    """Holds how predicted volumes of a structure differ from the true ones, in ml (Bland and Altman, Lancet 1986)."""

    cases: int
    truth: float  # mean
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
            truth = float(np.mean([score.truth_ml for score in own]))
            found[name] = Agreement(len(own), truth, bias, bias - spread, bias + spread)
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
