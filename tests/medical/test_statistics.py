"""Tests statistics of scores: bootstrap intervals, agreement of volumes, rank correlation of uncertainty."""

import math

import numpy as np
import pytest
from scipy import stats

from vil_dense.medical.metrics import Score, Scoring
from vil_dense.medical.statistics import (
    draw_counts,
    mean_dice,
    mean_over_structures,
    structure_means,
    summarise_with_intervals,
    uncertainty_correlation,
    volume_agreement,
)


def score(
    case: str, structure: str = "organ", dice: float | None = 0.5, truth: float = 1.0, found: float = 1.0
) -> Score:
    outcome = "absent" if dice is None else "both"
    return Score(case, structure, outcome, dice, 1.0, 1.0, truth, found)


def summarised(table: np.ndarray, together: int = 1) -> dict:
    """Returns the summary of the Dice of cases and structures, of which so many cases are of one patient."""
    scores = [
        score(f"p{case // together}-{case}", f"s{column}", None if np.isnan(value) else float(value))
        for case, row in enumerate(table)
        for column, value in enumerate(row)
    ]
    return summarise_with_intervals(scores, Scoring({}), r"^p\d+")


def test_the_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).beta(8, 2, 60)
    found = summarised(values[:, None])["mean"]
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1).confidence_interval
    assert found["dice"] == pytest.approx(values.mean())
    np.testing.assert_allclose(found["dice_95"], expected, atol=0.004)
    assert found["nsd_95"] == [1.0, 1.0]


def test_cases_of_a_patient_are_drawn_together() -> None:
    """Tests ten equal cases of each patient: the interval is that of the patients, about sqrt(10) times wider."""
    cases = np.repeat(np.random.default_rng(0).normal(0.7, 0.1, 12), 10)[:, None]
    together, alone = summarised(cases, 10), summarised(cases)
    widths = [np.diff(summary["mean"]["dice_95"])[0] for summary in (together, alone)]
    assert widths[0] / widths[1] == pytest.approx(10**0.5, rel=0.1)
    assert "12 patients" in together["interval"] and "120 cases" in alone["interval"]


def test_absent_structures_are_left_out_of_each_draw() -> None:
    table = np.array([[0.5, np.nan], [0.7, np.nan], [0.9, 0.1]])
    counts = np.array([[1, 1, 1], [3, 0, 0], [0, 1, 2]])
    means = structure_means(table, counts)
    np.testing.assert_allclose(means, [[0.7, 0.1], [0.5, np.nan], [2.5 / 3, 0.1]])
    np.testing.assert_allclose(mean_over_structures(means), [0.4, 0.5, (2.5 / 3 + 0.1) / 2])
    summary = summarised(np.array([[0.5, np.nan], [0.7, np.nan]]))
    assert summary["structures"]["s1"]["dice_95"] is None and summary["structures"]["s1"]["dice"] is None


def test_one_patient_has_no_interval() -> None:
    assert summarised(np.array([[0.5], [0.6]]), 2)["mean"]["dice_95"] is None
    assert (draw_counts(["a", "a"]) == 1).all()


def test_limits_of_agreement() -> None:
    """Tests differences of -1, 0 and 4 ml: bias 1, standard deviation sqrt(7); absent structures are left out."""
    scores = [score(name, truth=2.0, found=2.0 + d) for name, d in zip("abc", (-1.0, 0.0, 4.0), strict=True)]
    scores += [score("d", dice=None, truth=0.0, found=0.0), score("a", "vessel", truth=1.0, found=3.0)]
    scores += [score("a", "bone", dice=None)]
    found = volume_agreement(scores)
    assert [*found] == ["organ", "vessel"]
    assert found["organ"] == pytest.approx((3, 2.0, 1.0, 1 - 1.96 * math.sqrt(7), 1 + 1.96 * math.sqrt(7)))
    assert found["vessel"].bias == 2.0 and math.isnan(found["vessel"].low)


def test_the_dice_of_a_case() -> None:
    scores = [
        score("a", dice=0.2),
        score("a", "vessel", dice=0.6),
        score("b", dice=None),
        score("c"),
        score("c", "x", None),
    ]
    found = mean_dice(scores)
    assert found["a"] == pytest.approx(0.4) and math.isnan(found["b"]) and found["c"] == 0.5


def test_a_measure_that_falls_with_dice() -> None:
    scores = [score(f"{n}", dice=n / 10) for n in range(8)] + [score("absent", dice=None)]
    numbers = {f"{n}": dict(entropy=math.exp(-n), mutual_information=0.1) for n in range(8)}
    numbers |= dict(absent=dict(entropy=9.0), other=dict(entropy=5.0))
    found = uncertainty_correlation(numbers, scores)
    assert [*found] == ["entropy"], "equal numbers have no correlation"
    assert found["entropy"]["spearman"] == pytest.approx(-1) and found["entropy"]["cases"] == 8
    turned = {name: dict(entropy=-own["entropy"]) for name, own in numbers.items()}
    assert uncertainty_correlation(turned, scores)["entropy"]["spearman"] == pytest.approx(1)
    assert uncertainty_correlation({"0": dict(entropy=np.pi)}, scores) == {}
