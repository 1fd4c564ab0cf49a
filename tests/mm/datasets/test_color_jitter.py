"""Tests colour jitter: each change is PIL's, the strengths are as asked, all four happen every time."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from vil_dense.mm.datasets.transforms.color_jitter import ADJUST, ColorJitter, shift_hue


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.4])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
    ],
)
def test_changes_are_those_of_pil(name: str, enhance: type, factor: float, image: np.ndarray):
    expected = np.asarray(enhance(Image.fromarray(image[..., ::-1])).enhance(factor))[..., ::-1]
    assert np.abs(ADJUST[name](image, factor).astype(int) - expected).max() <= 2


@pytest.mark.parametrize(("turns", "colour"), [(0.0, "red"), (1 / 3, "green"), (-1 / 3, "blue"), (1.0, "red")])
def test_hue_turns(turns: float, colour: str):
    bgr = dict(red=(0, 0, 255), green=(0, 255, 0), blue=(255, 0, 0))
    picture = np.full((2, 2, 3), bgr["red"], dtype=np.uint8)
    assert (shift_hue(picture, turns) == bgr[colour]).all()


def test_strengths_and_order(image: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    calls = []
    for name in ADJUST:
        monkeypatch.setitem(ADJUST, name, lambda x, strength, name=name: calls.append((name, strength)) or x)
    np.random.seed(0)
    for _ in range(200):
        ColorJitter(brightness=0.5, contrast=0.5, saturation=2.0, hue=0.25).transform(dict(img=image))
    for name, low, high in (
        ("brightness", 0.5, 1.5),
        ("contrast", 0.5, 1.5),
        ("saturation", 0, 3),
        ("hue", -0.25, 0.25),
    ):
        drawn = [strength for called, strength in calls if called == name]
        assert len(drawn) == 200 and low <= min(drawn) < low + 0.1 and high - 0.1 < max(drawn) <= high
    assert len({tuple(name for name, _ in calls[n : n + 4]) for n in range(0, 800, 4)}) == 24
