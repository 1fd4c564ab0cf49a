"""Describes a mask: volume and components of each structure, and images of three planes."""

import colorsys
from collections.abc import Mapping
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform
from PIL import Image
from scipy import ndimage

from vil_dense.medical.io.grid import Grid
from vil_dense.medical.label_map import inside, structures, values_of
from vil_dense.medical.postprocess import TOUCHING, boxes

PANEL_PX = 320
GAP_PX = 8


def describe_mask(mask: np.ndarray, labels: Mapping[str, Any], grid: Grid) -> list[dict[str, Any]]:
    """Measures each structure but the background 0: volume, components, and whether it touches the border.

    Args:
        labels: value of each structure in the mask, or the values of a region.

    Returns:
        Dicts of `structure`, `label` (of a region as `1 2 3`), `voxels`, `ml`, `components`, `touches_border`.
    """
    found = dict(boxes(mask, sorted({n for own in labels.values() for n in values_of(own)})))
    voxel_ml = abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000
    rows = []
    for name, own in structures(labels).items():
        values, voxels, components, touches = values_of(own), 0, 0, False
        if present := [found[value] for value in values if value in found]:
            box = tuple(
                slice(min(part.start for part in parts), max(part.stop for part in parts))
                for parts in zip(*present, strict=True)
            )
            part = inside(mask[box], own)
            voxels, components = int(part.sum()), int(ndimage.label(part, TOUCHING)[1])
            touches = any(side.start == 0 or side.stop == n for side, n in zip(box, mask.shape, strict=True))
        label = own if isinstance(own, int) else " ".join(map(str, values))
        row = dict(structure=name, label=label, voxels=voxels, ml=voxels * voxel_ml)
        rows.append(row | dict(components=components, touches_border=touches))
    return rows


def three_planes(image: np.ndarray, mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Draws the axial, coronal and sagittal slice with the largest area of the mask side by side, (H, W, 3) uint8.

    In the radiological view the patient's right, or front, is on the left; the head, or front, is up. Pixels are square
    in mm; grey values range from the 1st to the 99th percentile of each slice.

    Args:
        image: (I, J, K), one channel.
        mask: (I, J, K) labels; 0 is transparent.
    """
    to_ras = ornt_transform(io_orientation(grid.affine), axcodes2ornt("RAS"))
    image, mask = apply_orientation(image, to_ras), apply_orientation(mask, to_ras)
    spacing = [grid.spacing_mm[axis] for axis in np.argsort(to_ras[:, 0])]
    extent = [n * mm for n, mm in zip(mask.shape, spacing, strict=True)]
    panels = []
    for axis in (2, 1, 0):
        across, up = (other for other in range(3) if other != axis)
        area = np.count_nonzero(mask, axis=(across, up))
        index = int(np.argmax(area)) if area.any() else mask.shape[axis] // 2
        plane, labels = (np.take(volume, index, axis).T[::-1, ::-1] for volume in (image, mask))
        scale = PANEL_PX / max(extent)
        size = max(round(extent[across] * scale), 1), max(round(extent[up] * scale), 1)
        panels.append(_blend(plane, labels, size))
    height = max(len(panel) for panel in panels)
    padded = [np.pad(panel, ((0, height - len(panel)), (0, GAP_PX), (0, 0))) for panel in panels]
    return np.hstack(padded)[:, :-GAP_PX]


def colour(label: int) -> tuple[int, int, int]:
    """Returns the RGB colour of a label of 1 or more; consecutive labels differ strongly in hue."""
    parts = colorsys.hsv_to_rgb((label - 1) * 0.618034 % 1, 0.85, 1)
    red, green, blue = (round(255 * part) for part in parts)
    return red, green, blue


def _blend(plane: np.ndarray, labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draws grey values with the labels over them, enlarged to `size`, (W, H) px."""
    low, high = np.percentile(plane, (1, 99))
    grey = np.clip((plane - low) / max(high - low, 1e-6), 0, 1) * 255
    grey = np.asarray(Image.fromarray(grey.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR))
    labels = np.asarray(Image.fromarray(labels.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    picture = np.repeat(grey[..., None], 3, axis=2)
    for label in np.unique(labels[labels > 0]).tolist():
        inside = labels == label
        picture[inside] = picture[inside] // 2 + np.array(colour(label), dtype=np.uint8) // 2
    return picture
