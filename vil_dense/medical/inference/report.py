"""Describes a mask: volume and components of each structure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from vil_dense.files import read_json
from vil_dense.medical.io.geometry import voxel_ml
from vil_dense.medical.io.grid import Grid
from vil_dense.medical.label_map import inside, structures, values_of
from vil_dense.medical.postprocess import TOUCHING, boxes


def describe_mask(mask: np.ndarray, labels: Mapping[str, Any], grid: Grid) -> list[dict[str, Any]]:
    """Measures each structure but the background 0: volume, components, and whether it touches the border.

    Args:
        labels: value of each structure in the mask, or the values of a region.

    Returns:
        Dicts of `structure`, `label` (of a region as `1 2 3`), `voxels`, `ml`, `components`, `touches_border`.
    """
    found = dict(boxes(mask, sorted({n for own in labels.values() for n in values_of(own)})))
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
        row = dict(structure=name, label=label, voxels=voxels, ml=voxels * voxel_ml(grid.affine))
        rows.append(row | dict(components=components, touches_border=touches))
    return rows


def read_report(masks: Path, case: str) -> dict[str, Any]:
    """Returns the report that `tools/volumes/predict.py` wrote for a mask; empty if another program made the mask.

    Args:
        masks: the mask, or the folder of masks; reports lie in the folder `reports` beside it.
    """
    masks = masks.absolute()  # the parent of "." is "." otherwise
    folder = masks.parent if masks.is_dir() else masks.parent.parent
    path = folder / f"reports/{case}.json"
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


def read_uncertainty(masks: Mapping[str, Path]) -> dict[str, dict[str, float]]:
    """Returns the uncertainty of each case whose report has some, by measure (`inference.uncertainty`).

    Args:
        masks: by case, see `read_report`.
    """
    reports = {case: read_report(path, case) for case, path in masks.items()}
    return {case: report["uncertainty"] for case, report in reports.items() if report.get("uncertainty")}
