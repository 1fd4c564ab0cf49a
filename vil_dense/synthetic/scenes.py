"""Paints the synthetic sample, landscapes with pixel labels, so that training runs without a download.

Colour alone does not determine the class. It is drawn for every surface of every scene from one of four families of
hues, each of which belongs to three classes; these differ in texture, shape and position.
"""

import colorsys
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vil_dense.files import whole_folder
from vil_dense.synthetic.textures import TEXTURES

CLASSES = ("sky", "hill", "water", "grass", "field", "road", "house", "roof", "tree", "fence", "pole", "car")
"""Names in label order; in a label map `CLASSES[n]` is `n + 1` and 0 is other, as in ADE20K."""

PALETTE = (
    (120, 190, 240), (120, 110, 170), (30, 100, 200), (140, 210, 90), (230, 200, 80), (110, 110, 110),
    (200, 90, 70), (150, 40, 60), (30, 120, 50), (240, 240, 240), (255, 140, 0), (230, 60, 200),
)  # fmt: skip
"""RGB of each class in overlays."""

HUES = dict(sky=0.57, water=0.57, car=0.57, hill=0.30, grass=0.30, tree=0.30, field=0.07, house=0.07, roof=0.07)
"""Mean hue of each class; classes that are not listed are grey."""

FORMAT = 1
"""Version of the painter; it is increased if the same seed gives other pictures, so that old samples are replaced."""


class Canvas:
    """Paints a picture and its labels from back to front.

    Args:
        rng: source of all random numbers.
        size: (H, W) in pixels.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self.rng, self.size = rng, size
        self.image = np.zeros((*size, 3), np.float32)
        self.label = np.zeros(size, np.uint8)
        self.y, self.x = np.mgrid[: size[0], : size[1]].astype(np.float32)

    def colour(self, name: str) -> np.ndarray:
        """Draws an RGB colour in [0, 1] from the family of the class."""
        hue = HUES.get(name, self.rng.uniform()) + self.rng.normal(0, 0.03)
        saturation = self.rng.uniform(0.3, 0.6) if name in HUES else self.rng.uniform(0, 0.12)
        return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, self.rng.uniform(0.5, 0.8)), np.float32)

    def mask(self, points: list[tuple[float, float]]) -> np.ndarray:
        """Returns the mask of a polygon with (x, y) corners, (H, W) bool."""
        picture = Image.new("1", self.size[::-1])
        ImageDraw.Draw(picture).polygon(points, fill=1)
        return np.array(picture)

    def box(self, x: float, y: float, width: float, height: float) -> np.ndarray:
        """Returns the mask of an upright box with the top left corner (x, y), (H, W) bool."""
        return (self.x >= x) & (self.x < x + width) & (self.y >= y) & (self.y < y + height)

    def disc(self, x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
        """Returns the mask of an ellipse around (x, y), (H, W) bool."""
        return ((self.x - x) / radius_x) ** 2 + ((self.y - y) / radius_y) ** 2 < 1

    def paint(self, mask: np.ndarray, name: str, colour: np.ndarray | None = None) -> None:
        """Covers `mask` with the texture and label of a class, in a new colour unless one is given."""
        colour = self.colour(name) if colour is None else colour
        shift = self.rng.uniform(0, 60, 2)
        tone = TEXTURES[name](self.rng, self.y + shift[0], self.x + shift[1])
        self.image[mask] = (colour * (1 + 0.28 * tone[..., None]))[mask]
        self.label[mask] = CLASSES.index(name) + 1

    def touch(self, mask: np.ndarray, factor: float) -> None:
        """Darkens or lightens a detail; its label does not change."""
        self.image[mask] *= factor

    def ignore(self, mask: np.ndarray, colour: np.ndarray) -> None:
        """Covers `mask` with an object of no class."""
        self.image[mask], self.label[mask] = colour, 0


def _backdrop(c: Canvas, horizon: float) -> None:
    """Paints the sky, sometimes with a balloon of no class, a ridge of hills, and grass in front."""
    rng, (h, w) = c.rng, c.size
    c.paint(np.ones(c.size, bool), "sky")
    if rng.uniform() < 0.6:
        radius = rng.uniform(0.07, 0.11) * min(h, w)
        x, y = rng.uniform(0.1, 0.9) * w, rng.uniform(0.1, 0.22) * h
        stripes = np.sin((c.x - x) / radius * 6)[..., None] * 0.12
        envelope = c.disc(x, y, radius, 1.2 * radius)
        c.ignore(envelope, (np.array(colorsys.hsv_to_rgb(rng.uniform(), 0.6, 0.8)) + stripes)[envelope])
        c.ignore(c.box(x - 2, y + 1.35 * radius, 5, 4), np.array([0.35, 0.25, 0.2]))
    phase, reach = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.1, 0.2) * h
    ridge = sum(np.sin(c.x / w * np.pi * k + p) / k for k, p in zip((2, 3, 5), phase, strict=True))
    c.paint(c.y > horizon - reach * (1 + 0.45 * ridge), "hill")
    c.paint(c.y > horizon, "grass")


def _ground(c: Canvas, horizon: float) -> None:
    """Paints a lake, a ploughed field and a road on the grass, in random order from back to front."""
    rng, (h, w) = c.rng, c.size
    depth = h - horizon
    edges = horizon + depth * np.array([0.0, rng.uniform(0.28, 0.36), rng.uniform(0.6, 0.7), 1.0])
    for name, top, bottom in zip(rng.permutation(["water", "field", "road"]), edges[:-1], edges[1:], strict=True):
        gap, tilt = 0.2 * (bottom - top), rng.uniform(-0.07, 0.07) * depth
        left, right = sorted(rng.permutation([rng.uniform(-0.3, 0.15), rng.uniform(0.85, 1.3)])) * np.array(w)
        corners = [(left, top + gap - tilt), (right, top + gap + tilt), (right + 9, bottom + tilt), (left - 9, bottom)]
        band = c.mask(corners)
        c.paint(band, str(name))
        if name == "road":
            middle = (top + gap + bottom) / 2 + tilt * (2 * c.x / w - 1) * 0.5
            c.touch(band & (np.abs(c.y - middle) < 1) & (c.x % 16 < 9), 1.5)


def _house(c: Canvas, x: float, base: float, unit: float) -> None:
    """Paints brick walls with windows under a gabled or hipped roof; (x, base) is the middle of the bottom edge."""
    rng = c.rng
    width, walls, top = unit * rng.uniform(28, 44), unit * rng.uniform(18, 28), unit * rng.uniform(14, 20)
    left, eaves, ridge = x - width / 2, base - walls, rng.uniform(0.1, 0.8) * width / 2
    c.paint(c.box(left, eaves, width, walls), "house")
    for i in range(int(width // 14)):
        c.touch(c.box(left + 5 + 14 * i, eaves + 6, 5, 7), 0.45)
    corners = [(left - 4, eaves), (x - ridge, eaves - top), (x + ridge, eaves - top), (left + width + 4, eaves)]
    c.paint(c.mask(corners), "roof")


def _tree(c: Canvas, x: float, base: float, unit: float) -> None:
    """Paints a round crown on a trunk."""
    radius, trunk = unit * c.rng.uniform(9, 15), unit * c.rng.uniform(6, 11)
    wood = c.box(x - 2, base - trunk - 3, 4, trunk + 3)
    crown = c.disc(x, base - trunk - radius, radius, radius * c.rng.uniform(0.9, 1.2))
    c.paint(wood | crown, "tree")
    c.touch(wood & ~crown, 0.6)


def _fence(c: Canvas, x: float, base: float, unit: float) -> None:
    """Paints pickets on two rails; the gaps are labelled as fence, too, as annotators do."""
    rng = c.rng
    width, height = unit * rng.uniform(40, 70), unit * rng.uniform(13, 17)
    whole = c.box(x - width / 2, base - height, width, height)
    behind = c.image.copy()
    c.paint(whole, "fence")
    rails = (np.abs(c.y - base + 0.3 * height) < 1.5) | (np.abs(c.y - base + 0.75 * height) < 1.5)
    gaps = whole & ~rails & ((c.x - x) % 7 > 4)
    c.image[gaps] = behind[gaps]


def _pole(c: Canvas, x: float, base: float, unit: float) -> None:
    """Paints a thin banded mast; its wire, two pixels thick, has no class."""
    rng = c.rng
    height, thickness = unit * rng.uniform(50, 80), rng.uniform(4, 6)
    sag = base - height + 5 + unit * 8 * ((c.x - x) / (0.35 * c.size[1])) ** 2
    if rng.uniform() < 0.4:
        c.ignore((np.abs(c.y - sag) < 1) & (np.abs(c.x - x) < 0.35 * c.size[1]), np.full(3, 0.2))
    c.paint(c.box(x - thickness / 2, base - height, thickness, height), "pole")


def _car(c: Canvas, x: float, base: float, unit: float) -> None:
    """Paints a small body with a cabin, windows and two wheels."""
    length, height = unit * c.rng.uniform(24, 32), unit * c.rng.uniform(8, 10)
    body = c.box(x - length / 2, base - height, length, height - 2)
    cabin = c.box(x - length / 4, base - 1.8 * height, length / 2, height)
    wheels = [c.disc(x + side * length * 0.28, base - 2, 3.6, 3.6) for side in (-1, 1)]
    c.paint(body | cabin | wheels[0] | wheels[1], "car")
    c.touch(c.box(x - length / 4 + 2, base - 1.8 * height + 2, length / 2 - 4, 0.8 * height - 3), 1.5)
    c.touch(wheels[0] | wheels[1], 0.3)


OBJECTS: dict[str, tuple[Callable[[Canvas, float, float, float], None], int, int]] = dict(
    house=(_house, 1, 2), tree=(_tree, 1, 3), fence=(_fence, 1, 2), pole=(_pole, 2, 3), car=(_car, 1, 3)
)
"""Painter of each kind of object, and its smallest and largest number in a scene."""


def make_scene(rng: np.random.Generator, size: tuple[int, int] = (128, 160)) -> tuple[np.ndarray, np.ndarray]:
    """Paints one scene.

    Args:
        rng: source of all random numbers; the same state gives the same scene.
        size: (H, W) in pixels.

    Returns:
        image: RGB, (H, W, 3) uint8.
        label: (H, W) uint8, 0 for other and `n + 1` for `CLASSES[n]`.
    """
    h, w = size
    c = Canvas(rng, size)
    horizon, unit = rng.uniform(0.36, 0.46) * h, min(h, w) / 120
    _backdrop(c, horizon)
    _ground(c, horizon)
    standing = [
        (rng.uniform(horizon + 0.1 * (h - horizon), h), rng.uniform(0.05, 0.95) * w, painter)
        for painter, fewest, most in OBJECTS.values()
        for _ in range(rng.integers(fewest, most + 1))
    ]
    for base, x, painter in sorted(standing, key=lambda item: item[0]):
        painter(c, x, base, unit)
    tint = rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3)
    slope = 1 + rng.uniform(-0.15, 0.15) * (c.x / w - 0.5)
    image = 255 * tint * slope[..., None] * c.image + rng.normal(0, 4, c.image.shape)
    return image.clip(0, 255).astype(np.uint8), c.label


def draw_size(rng: np.random.Generator) -> tuple[int, int]:
    """Draws (H, W) of a picture: short side 96 to 160 px, aspect ratio up to 1.5, a quarter upright."""
    short = int(rng.integers(96, 161))
    long = int(short * rng.uniform(1, 1.5))
    return (long, short) if rng.uniform() < 0.25 else (short, long)


def write_sample(
    root: str | Path,
    *,
    train: int = 400,
    val: int = 50,
    seed: int = 0,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Writes a sample in ADE20K's layout, unless the folder already holds the same one.

    Args:
        root: the folder; its parent is created if it does not exist.
        train, val: pictures of each split; the splits use different seeds.
        seed: the same seed gives the same bytes.
        report: called with the number of finished and of all pictures.

    Raises:
        FileExistsError: `root` holds something that is not a sample.
    """
    if train < 1 or val < 1:
        raise ValueError(f"a sample needs at least one picture in each split, got {train} and {val}")
    root = Path(root)
    card = dict(made_by="vil_dense.synthetic.scenes", format=FORMAT, train=train, val=val, seed=seed)
    if root.exists() and (root.is_file() or any(root.iterdir())):
        found = _read_card(root)
        if found.get("made_by") != card["made_by"]:
            raise FileExistsError(f"{root} exists and is not a sample, so it is not replaced: choose another folder")
        if found == card and all(len(list(root.glob(f"*/{folder}/*"))) == 2 * n for folder, n in _splits(train, val)):
            return root
    with whole_folder(root) as part:
        _write_pictures(part, train, val, seed, report)
        (part / "sample.json").write_text(json.dumps(card, indent=2) + "\n")
    return root


def _splits(train: int, val: int) -> tuple[tuple[str, int], ...]:
    return (("training", train), ("validation", val))


def _read_card(root: Path) -> dict:
    try:
        card = json.loads((root / "sample.json").read_text())
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _write_pictures(root: Path, train: int, val: int, seed: int, report: Callable[[int, int], None]) -> None:
    done = 0
    for split, (folder, count) in enumerate(_splits(train, val)):
        images, labels = root / "images" / folder, root / "annotations" / folder
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng([seed, split, i])
            image, label = make_scene(rng, draw_size(rng))
            Image.fromarray(image).save(images / f"{folder}_{i:05d}.jpg", quality=92, subsampling=0)
            Image.fromarray(label).save(labels / f"{folder}_{i:05d}.png")
            done += 1
            report(done, train + val)
    rows = [f"{n}\t{name}" for n, name in enumerate(("other", *CLASSES))]
    (root / "objectInfo.txt").write_text("\n".join(["Idx\tName", *rows]) + "\n")
