"""Draws three planes of a case: the image, the mask over it, contours of the truth, and a caption and a legend."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from vil_dense.medical.io.geometry import voxel_size
from vil_dense.medical.label_map import LabelMap, values_of

PANEL_PX = 320
NARROWEST_PX = 190
"""Least width of a panel, that of its caption."""
GAP_PX = 8
LINE_PX = 20
FONT_PX = 13
CONTOUR_PX = 2
FILL = 0.35
"""Opacity of the mask where contours of the truth lie over it, or its own."""
PERCENTILES = (1.0, 99.5)
SAMPLE = 100
"""Voxels along each axis from which percentiles are taken."""
GREY, WHITE = (170, 170, 170), (255, 255, 255)
PLANES = {2: ("axial", "RLAP"), 1: ("coronal", "RLSI"), 0: ("sagittal", "APSI")}
"""Name of the plane across each RAS axis, and the letters at its left, right, upper and lower edge."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""
KeyEntry = tuple[float, Colour | None, str]
"""Left edge in px, colour (None without a square) and name of an entry of the key."""


class Window(NamedTuple):
    """Holds the grey values that are drawn black and white."""

    low: float
    high: float


class Plane(NamedTuple):
    """Holds a slice to draw: (W, H) in px, arrays (H, W), and its caption; image and truth are None without one."""

    size: tuple[int, int]
    image: np.ndarray | None
    mask: np.ndarray
    truth: np.ndarray | None
    caption: str
    letters: str


def intensity_window(image: np.ndarray, intensity: Mapping[str, Any]) -> Window:
    """Returns the window of a channel: the clipping range of its rule (CT), else percentiles of the volume (MR).

    Args:
        image: (I, J, K).
        intensity: the rule of the channel in a plan, see `plan_schema`.
    """
    if "low" in intensity and "high" in intensity:
        return Window(float(intensity["low"]), float(intensity["high"]))
    sample = image[tuple(slice(None, None, max(1, n // SAMPLE)) for n in image.shape)]
    low, high = np.percentile(sample, PERCENTILES)
    return Window(float(low), float(high))


def draw_case(
    case: str,
    image: np.ndarray | None,
    mask: np.ndarray,
    affine: np.ndarray,
    labels: Mapping[str, Any],
    *,
    window: Window | None = None,
    truth: np.ndarray | None = None,
    ignore: int | None = None,
) -> np.ndarray:
    """Draws an axial, a coronal and a sagittal slice side by side, with names and letters; returns (H, W, 3) uint8.

    The slices are those with the most voxels in which mask and truth differ, or else with the largest area of the mask.
    In the radiological view the patient's right, or front, is on the left; the head, or front, is up. Pixels are square
    in mm. Letters are those of the anatomical axes nearest to the voxels' axes. The mask is filled; contours are those
    of the truth where there is one, else of the mask.

    Args:
        case: its name, for the first line.
        image: (I, J, K), one channel; None draws the mask alone.
        mask: (I, J, K) labels; 0 is transparent.
        affine: (4, 4), voxels to mm in RAS directions.
        labels: value of each structure, or the values of a region, by name.
        window: default: percentiles of the image.
        truth: (I, J, K) labels.
        ignore: value in the truth of voxels without annotation, which get no contour and count as no difference.
    """
    if image is not None and window is None:
        window = intensity_window(image, {})
    planes = list(_planes(image, mask, affine, truth, ignore))
    panels = [_panel(plane, window, ignore) for plane in planes]
    height = max(panel.height for panel in panels)
    width = sum(max(panel.width, NARROWEST_PX) for panel in panels) + GAP_PX * (len(panels) - 1)
    parts = [part for plane in planes for part in (plane.mask, plane.truth) if part is not None]
    shown = {int(value) for part in parts for value in np.unique(part)} - {0, ignore}
    rows = _rows(_key(shown, labels, truth is not None), width)
    canvas = Image.new("RGB", (width, 2 * LINE_PX + height + LINE_PX * len(rows)))
    drawing, font = ImageDraw.Draw(canvas), ImageFont.load_default(FONT_PX)
    _draw_title(drawing, case, window, width)
    x = 0
    for plane, panel in zip(planes, panels, strict=True):
        room = max(panel.width, NARROWEST_PX)
        canvas.paste(panel, (x + (room - panel.width) // 2, LINE_PX))
        drawing.text((x + 2, 3 * LINE_PX // 2 + height), plane.caption, GREY, font, anchor="lm")
        x += room + GAP_PX
    _draw_key(drawing, rows, 2 * LINE_PX + height)
    return np.asarray(canvas)


def draw_comparison(
    case: str,
    image: np.ndarray | None,
    mask: np.ndarray,
    truth: np.ndarray,
    affine: np.ndarray,
    plan: Mapping[str, Any],
) -> np.ndarray:
    """Draws a mask and the label of its case by a plan, which has the names and the window; see `draw_case`.

    Args:
        truth: (I, J, K), values of the label file.
    """
    known = LabelMap.of(plan)
    window = None if image is None else intensity_window(image, plan["intensity"][0])
    truth = truth if known.regions else known.merge(truth)
    return draw_case(case, image, mask, affine, known.values, window=window, truth=truth, ignore=known.ignore)


def colour(label: int) -> Colour:
    """Returns the RGB colour of a label of 1 or more; consecutive labels differ strongly in hue."""
    parts = colorsys.hsv_to_rgb((label - 1) * 0.618034 % 1, 0.85, 1)
    red, green, blue = (round(255 * part) for part in parts)
    return red, green, blue


def name_of(value: int, labels: Mapping[str, Any]) -> str:
    """Returns the structure of a value in a mask; of regions that contain each other the smallest, with this value."""
    owners = [name for name, own in labels.items() if value in values_of(own)]
    return min(owners, key=lambda name: len(values_of(labels[name])), default=f"label {value}")


def _planes(
    image: np.ndarray | None, mask: np.ndarray, affine: np.ndarray, truth: np.ndarray | None, ignore: int | None
) -> list[Plane]:
    """Chooses a slice across each anatomical axis, and turns it to the radiological view."""
    to_ras = ornt_transform(io_orientation(affine), axcodes2ornt("RAS"))
    mask = apply_orientation(mask, to_ras)
    image, truth = (None if x is None else apply_orientation(x, to_ras) for x in (image, truth))
    of_file = [int(axis) for axis in np.argsort(to_ras[:, 0])]
    spacing_mm = voxel_size(affine)
    extent = [mask.shape[axis] * spacing_mm[of_file[axis]] for axis in range(3)]
    scale = PANEL_PX / max(extent)
    differs = None if truth is None else mask != truth
    if differs is not None and ignore is not None:
        differs &= truth != ignore
    found = []
    for axis, (name, letters) in PLANES.items():
        across, up = (other for other in range(3) if other != axis)
        index = _busiest([differs, mask, truth], axis)
        sliced = [None if volume is None else _slice(volume, index, axis) for volume in (image, truth)]
        size = max(round(extent[across] * scale), 1), max(round(extent[up] * scale), 1)
        flipped = to_ras[of_file[axis], 1] < 0
        count = mask.shape[axis]
        number = count - 1 - index if flipped else index
        caption = f"{name}, {'IJK'[of_file[axis]]} {number} of 0 to {count - 1}"
        found.append(Plane(size, sliced[0], _slice(mask, index, axis), sliced[1], caption, letters))
    return found


def _slice(volume: np.ndarray, index: int, axis: int) -> np.ndarray:
    """Returns a slice of a volume in RAS order, in the radiological view."""
    return np.take(volume, index, axis).T[::-1, ::-1]


def _busiest(volumes: Sequence[np.ndarray | None], axis: int) -> int:
    """Returns the slice of the first volume that is not empty with the most voxels that are not 0; else the middle."""
    others = tuple(other for other in range(3) if other != axis)
    for volume in (volume for volume in volumes if volume is not None):
        area = np.count_nonzero(volume, axis=others)
        if area.any():
            return int(np.argmax(area))
    first = next(volume for volume in volumes if volume is not None)
    return first.shape[axis] // 2


def _panel(plane: Plane, window: Window | None, ignore: int | None) -> Image.Image:
    """Draws a slice: grey values, filled mask, contours, letters of the sides."""
    if plane.image is None or window is None:
        grey = np.full(plane.size[::-1], 40, np.uint8)
    else:
        scaled = np.clip((plane.image - window.low) / max(window.high - window.low, 1e-6), 0, 1) * 255
        resized = Image.fromarray(scaled.astype(np.uint8)).resize(plane.size, Image.Resampling.BILINEAR)
        grey = np.asarray(resized)
    picture = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    mask = _enlarged(plane.mask, plane.size)
    outlined = mask if plane.truth is None else _enlarged(plane.truth, plane.size)
    for label in np.unique(mask[mask > 0]).tolist():
        inside = mask == label
        picture[inside] = (1 - FILL) * picture[inside] + FILL * np.array(colour(label))
    for label in np.unique(outlined[outlined > 0]).tolist():
        if label != ignore:
            inside = outlined == label
            picture[inside & ~ndimage.binary_erosion(inside, iterations=CONTOUR_PX, border_value=1)] = colour(label)
    drawn = Image.fromarray(picture.astype(np.uint8))
    drawing, font = ImageDraw.Draw(drawn), ImageFont.load_default(FONT_PX)
    width, height = plane.size
    places = ((3, height / 2, "lm"), (width - 3, height / 2, "rm"), (width / 2, 3, "mt"), (width / 2, height - 3, "mb"))
    for letter, (x, y, anchor) in zip(plane.letters, places, strict=True):
        drawing.text((x, y), letter, WHITE, font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    return drawn


def _enlarged(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))


def _draw_title(drawing: ImageDraw.ImageDraw, case: str, window: Window | None, width: int) -> None:
    """Draws the first line: the name of the case, and the window if there is room beside it."""
    font = ImageFont.load_default(FONT_PX)
    drawing.text((2, LINE_PX // 2), case, WHITE, font, anchor="lm")
    if window is not None:
        words = f"window {window.low:.4g} to {window.high:.4g}"
        left = width - font.getlength(words) - 2
        if left > font.getlength(case) + LINE_PX:
            drawing.text((left, LINE_PX // 2), words, GREY, font, anchor="lm")


def _draw_key(drawing: ImageDraw.ImageDraw, rows: Sequence[Sequence[KeyEntry]], top: int) -> None:
    """Draws the lines of a key from `top` px on."""
    font = ImageFont.load_default(FONT_PX)
    for number, row in enumerate(rows):
        y = top + LINE_PX * number + LINE_PX // 2
        for left, colour_of, name in row:
            if colour_of:
                drawing.rectangle((left, y - 5, left + 10, y + 5), colour_of)
            drawing.text((left + 15 * bool(colour_of), y), name, WHITE, font, anchor="lm")


def _key(values: set[int], labels: Mapping[str, Any], with_truth: bool) -> list[tuple[Colour | None, str]]:
    """Returns colours and names of the values in the slices; the last entry says what is filled and what is a line."""
    key: list[tuple[Colour | None, str]] = [(colour(value), name_of(value, labels)) for value in sorted(values)]
    return [*key, (None, "filled: prediction, lines: truth")] if with_truth else key


def _rows(key: Sequence[tuple[Colour | None, str]], width: int) -> list[list[KeyEntry]]:
    """Places the entries of a key in rows of `width` px; returns left edge, colour and name of each."""
    font = ImageFont.load_default(FONT_PX)
    rows: list[list[KeyEntry]] = []
    x = math.inf
    for colour_of, name in key:
        needed = 15 * bool(colour_of) + font.getlength(name) + 14
        if x + needed > width:
            rows.append([])
            x = 2.0
        rows[-1].append((x, colour_of, name))
        x += needed
    return rows
