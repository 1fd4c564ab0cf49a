"""Writes the synthetic sample of volumes: CT of abdomens, thick slices, NIfTI files in several orientations.

Intensity alone does not determine the organ: liver and spleen overlap in HU, and so do vessel and gland. They differ in
side and shape.
"""

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from vil_dense.files import save_json, whole_folder

LABELS = dict(background=0, liver=1, spleen=2, vessel=3, gland=4)
ORIENTATIONS = ("RAS", "LPS", "LAS", "PSR")
SHAPE_VOX = (72, 64, 28)
SPACING_MM = (2.0, 2.0, 5.0)

FORMAT = 1
"""Version of the generator; it is increased if the same seed gives other volumes, so that old samples are replaced."""


def _ball(grid: np.ndarray, centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the mask of an ellipsoid with a lumpy surface; `grid` (3, I, J, K) and lengths are in mm."""
    lumps = ndimage.gaussian_filter(rng.normal(size=grid.shape[1:]), (3, 3, 1.5))
    distance = (((grid - centre[:, None, None, None]) / radii[:, None, None, None]) ** 2).sum(0)
    return distance < 1 + 0.25 * lumps / lumps.std()


def make_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image in HU, int16, and labels, uint8, both (I, J, K) in RAS order with voxels of `SPACING_MM`."""
    rng = np.random.default_rng(seed)
    size = np.array(SHAPE_VOX) * SPACING_MM
    axes = [(np.arange(n) + 0.5) * mm - n * mm / 2 for n, mm in zip(SHAPE_VOX, SPACING_MM, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"))
    shift = rng.normal(0, 4, 3)
    body = (((grid[:2] - shift[:2, None, None, None]) / (size[:2, None, None, None] * 0.46)) ** 2).sum(0) < 1
    # Right is +x in RAS: the liver lies right, the spleen left and behind, the vessel before the spine.
    liver = _ball(
        grid, np.array([24, 8, 5]) + shift + rng.normal(0, 3, 3), rng.uniform(0.9, 1.1) * np.array([30, 27, 42]), rng
    )
    spleen = _ball(
        grid, np.array([-38, -18, 8]) + shift + rng.normal(0, 4, 3), rng.uniform(0.8, 1.2) * np.array([13, 17, 24]), rng
    )
    bend = 4 * np.sin(grid[2] / rng.uniform(25, 45) + rng.uniform(0, 6))
    vessel = np.hypot(grid[0] + 4 - shift[0] - bend, grid[1] + 14 - shift[1] - 0.5 * bend) < rng.uniform(5, 7)
    gland = _ball(
        grid, np.array([-15, -26, 30]) + shift + rng.normal(0, 3, 3), rng.uniform(0.8, 1.2) * np.array([6, 5, 9]), rng
    )
    labels = np.zeros(SHAPE_VOX, np.uint8)
    image = np.where(body, rng.normal(-60, 8), -1000.0)
    for value, (organ, hu) in enumerate(((liver, 105), (spleen, 115), (vessel, 165), (gland, 150)), 1):
        inside = organ & body & (labels == 0)
        labels[inside] = value
        image[inside] = hu + rng.normal(0, 12)
    spine = (np.hypot(grid[0] - shift[0], grid[1] + 38 - shift[1]) < 11) & body & (labels == 0)
    image[spine] = rng.normal(400, 60)
    # Partial volume along the slices, then the scanner's noise.
    image = ndimage.gaussian_filter(image, (0.6, 0.6, 0.3)) + rng.normal(0, 20, SHAPE_VOX)
    return np.clip(image, -1024, 3071).astype(np.int16), labels


def write_sample(
    root: Path,
    *,
    train: int = 24,
    val: int = 6,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes `imagesTr`, `labelsTr` and a Decathlon `dataset.json` whose entries have a fold: `val` cases are fold 0.

    A folder that already holds the same sample is not changed; another sample is replaced.

    Raises:
        ValueError: the folder holds other files.
    """
    if train < 1 or val < 1:
        raise ValueError(f"a sample needs at least one volume in each split, got {train} and {val}")
    mark = dict(format=FORMAT, train=train, val=val, seed=seed)
    marked = root / "sample.json"
    if marked.is_file():
        if json.loads(marked.read_text()) == mark:
            return root
    elif root.exists() and any(root.iterdir()):
        raise ValueError(f"{root} exists and is not a sample, so it is not replaced: choose another folder with --out")
    labels_of = {str(value): label for label, value in LABELS.items()}
    with whole_folder(root) as part:
        entries = _write_cases(part, train, val, seed, report)
        save_json(
            part / "dataset.json",
            dict(name="phantom", modality={"0": "CT"}, labels=labels_of, numTraining=train + val, training=entries),
        )
        save_json(part / marked.name, mark)
    return root


def _write_cases(root: Path, train: int, val: int, seed: int, report: Callable[[int, int], None] | None) -> list[dict]:
    """Writes images and labels; returns their entries of the data list."""
    entries = []
    for index in range(train + val):
        name = f"phantom_{index:03d}.nii.gz"
        image, labels = make_case(seed * 10_000 + index)
        for folder, voxels in (("imagesTr", image), ("labelsTr", labels)):
            path = root / folder / name
            path.parent.mkdir(exist_ok=True)
            nib.save(_reoriented(voxels, ORIENTATIONS[index % len(ORIENTATIONS)]), path)
        entries.append(dict(image=f"imagesTr/{name}", label=f"labelsTr/{name}", fold=0 if index >= train else 1))
        if report:
            report(index + 1, train + val)
    return entries


def _reoriented(voxels: np.ndarray, orientation: str) -> nib.Nifti1Image:
    """Returns a NIfTI image with axes of `orientation` from an array in RAS order."""
    image = nib.Nifti1Image(voxels, np.diag([*SPACING_MM, 1]))
    image.header.set_xyzt_units("mm")
    ours, theirs = nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    return image.as_reoriented(nib.orientations.ornt_transform(ours, theirs))
