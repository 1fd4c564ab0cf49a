"""Draws the textures by which the classes of the synthetic sample differ."""

from collections.abc import Callable

import numpy as np
from PIL import Image

Grid = np.ndarray
Texture = Callable[[np.random.Generator, Grid, Grid], Grid]


def _value_noise(rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float], smooth: bool) -> Grid:
    """Draws values in [-1, 1], (H, W), one for each cell of `cell` pixels, interpolated if `smooth`."""
    rows, cols = (int(n / c) + 2 for n, c in zip(shape, cell, strict=True))
    coarse = Image.fromarray(rng.uniform(-1, 1, (rows, cols)).astype(np.float32))
    kind = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(coarse.resize((shape[1], shape[0]), kind))


def _clouds(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return 0.5 * _value_noise(rng, y.shape, (12, 30), smooth=True) - 0.5 + y / len(y)


def _hatching(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return np.sin(2 * np.pi * (x + y) / 10)


def _waves(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return np.sin(2 * np.pi * (y / 7 + 0.25 * np.sin(2 * np.pi * x / 22)))


def _blades(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return _value_noise(rng, y.shape, (6, 2), smooth=False)


def _furrows(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return np.sign(np.sin(2 * np.pi * (x - 0.5 * y) / 9))


def _grain(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return 0.7 * _value_noise(rng, y.shape, (1.5, 1.5), smooth=False)


def _bricks(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    row = y // 5
    return np.where((y % 5 < 1.2) | ((x + 5 * (row % 2)) % 10 < 1.5), 1.2, -0.4)


def _chevrons(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return np.sign(np.sin(2 * np.pi * (y / 7 + np.abs(x / 9 % 2 - 1))))


def _leaves(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return 1.3 * np.sin(2 * np.pi * x / 7.5) * np.sin(2 * np.pi * y / 7.5)


def _bands(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return np.sign(np.sin(2 * np.pi * y / 12))


def _plain(rng: np.random.Generator, y: Grid, x: Grid) -> Grid:
    return np.zeros_like(y)


TEXTURES: dict[str, Texture] = dict(
    sky=_clouds, hill=_hatching, water=_waves, grass=_blades, field=_furrows, road=_grain,
    house=_bricks, roof=_chevrons, tree=_leaves, fence=_plain, pole=_bands, car=_plain,
)  # fmt: skip
"""Lightness of each class in [-1, 1] over the pixel grids y and x, both (H, W)."""
