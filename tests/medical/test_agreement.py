"""Tests the agreement of volumes and the rank correlation of uncertainty, on numbers that are known."""

import math

import numpy as np
import pytest

from vil_dense.medical.agreement import mean_dice, uncertainty_correlation, volume_agreement
from vil_dense.medical.metrics import Score


def score(
    case: str, structure: str = "organ", dice: float | None = 0.5, truth: float = 1.0, found: float = 1.0
) -> Score:
    outcome = "absent" if dice is None else "both"
    return Score(case, structure, outcome, dice, 1.0, 1.0, truth, found)


def test_limits_of_agreement() -> None:
    """Tests differences of -1, 0 and 4 ml: bias 1, standard deviation sqrt(7); absent structures are left out."""
    scores = [score(name, truth=2.0, found=2.0 + d) for name, d in zip("abc", (-1.0, 0.0, 4.0), strict=True)]
    scores += [score("d", dice=None, truth=0.0, found=0.0), score("a", "vessel", truth=1.0, found=3.0)]
    scores += [score("a", "bone", dice=None)]
    found = volume_agreement(scores)
    assert [*found] == ["organ", "vessel"]
    assert found["organ"] == pytest.approx((3, 1.0, 1 - 1.96 * math.sqrt(7), 1 + 1.96 * math.sqrt(7)))
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
