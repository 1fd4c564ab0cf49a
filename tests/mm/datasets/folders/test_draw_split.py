"""Tests that a drawn split repeats with its seed, keeps groups together, and has pictures on both sides."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import raises_one_line

from vil_dense.mm.datasets.folders.split import draw_split

NAMES = [f"film{film}_{frame}" for film in range(10) for frame in range(4)]


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text("abc_0", min_size=1), min_size=2, max_size=30), st.integers(0, 5), st.floats(0.05, 0.95))
def test_every_name_is_on_one_side(names: set[str], seed: int, share: float) -> None:
    listed = sorted(names)
    split = draw_split(listed, val_share=share, seed=seed)
    assert sorted(split["train"] + split["val"]) == listed and split["train"] and split["val"]
    assert split == draw_split(listed, val_share=share, seed=seed)
    assert len(split["val"]) == min(math.ceil(share * len(listed) - 1e-9), len(listed) - 1)


def test_the_seed_decides() -> None:
    assert draw_split(NAMES, seed=0) != draw_split(NAMES, seed=1)
    assert len(draw_split(NAMES)["val"]) == 8


def test_groups_stay_together() -> None:
    split = draw_split(NAMES, split_by=r"(.*)_\d+")
    train, val = ({name.split("_")[0] for name in names} for names in (split["train"], split["val"]))
    assert not train & val and len(val) == 2


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (dict(split_by="("), ("'('",)),
        (dict(split_by=r"(\d+)"), ("film0_0",)),
        (dict(split_by="film"), ("two", "'film'", "1")),
        (dict(val_share=1), ("val_share", "1")),
    ],
)
def test_what_cannot_be_drawn(options: dict, named: tuple[str, ...]) -> None:
    with raises_one_line(ValueError, *named):
        draw_split(NAMES, **options)
