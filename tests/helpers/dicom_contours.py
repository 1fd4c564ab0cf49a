"""Reads structure sets of DICOM as masks, in a way of its own: crossings of a line with the polygon are counted."""

from pathlib import Path

import numpy as np


def turns_around(polygon: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns how often a closed polygon turns around each pixel, and how often a line from there crosses it.

    Args:
        polygon: (N, 2) in pixels, whose centres have whole numbers.
        shape: (I, J) of both results.
    """
    i, j = np.meshgrid(*map(np.arange, shape), indexing="ij")
    turns, crossings = np.zeros(shape, int), np.zeros(shape, int)
    for (i0, j0), (i1, j1) in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        if j0 == j1:
            continue
        beyond = i0 + (j - j0) / (j1 - j0) * (i1 - i0) > i
        up, down = (j0 <= j) & (j < j1) & beyond, (j1 <= j) & (j < j0) & beyond
        turns += up.astype(int) - down
        crossings += up | down
    return turns, crossings


def read_rtstruct(path: Path, affine: np.ndarray, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Reads a structure set as a mask (I, J, K) bool of each structure by name.

    Args:
        affine: (4, 4), voxels of the image to mm in RAS directions.
        shape: of the image.
    """
    import pydicom

    data = pydicom.dcmread(path)
    names = {item.ROINumber: item.ROIName for item in data.StructureSetROISequence}
    back = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ affine)
    masks = {}
    for roi in data.ROIContourSequence:
        mask = masks[names[roi.ReferencedROINumber]] = np.zeros(shape, bool)
        for contour in roi.get("ContourSequence", []):
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints and contour.ContourGeometricType == "CLOSED_PLANAR"
            places = np.column_stack([points, np.ones(len(points))]) @ back.T
            k = round(float(places[0, 2]))
            np.testing.assert_allclose(places[:, 2], k, atol=1e-3)
            mask[..., k] ^= turns_around(places[:, :2], shape[:2])[1] % 2 == 1
    return masks
