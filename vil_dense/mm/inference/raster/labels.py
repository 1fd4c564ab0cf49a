"""Labels GeoTIFFs that may be larger than memory: windows are read from the file, labels are written block by block.

A raster is labelled in stripes of columns, each from the top to the bottom, so that memory does not grow with its size.
A window that reaches into two stripes runs for both: the labels are those of a raster that was labelled at once.
"""

import math
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from vil_dense.files import check_file, write_whole
from vil_dense.mm.datasets.transforms.raster import import_rasterio, may_be_invalid, open_raster, valid_pixels
from vil_dense.mm.inference.pictures import SLIDES, largest_picture
from vil_dense.mm.inference.raster.windows import (
    BLOCK,
    RasterSource,
    WindowRunner,
    cut_stripes,
    raster_windows,
    trained_pipeline,
)

if TYPE_CHECKING:
    from vil_dense.mm.inference.segmentor import Segmentor

BLENDS = ("taper", "mean")
"""Names how overlapping windows are averaged: weights that fall towards their edges, or alike as in mmseg's test."""


def split_rasters(pictures: dict[Path, Path]) -> tuple[dict[Path, Path], dict[Path, Path]]:
    """Returns the pictures that are read as a whole, and those that are labelled as rasters, see `is_raster`.

    Without rasterio all are pictures, and a warning names those whose place is lost.
    """
    tiffs = [path for path in pictures if path.suffix.lower() in (".tif", ".tiff", *SLIDES)]
    try:
        placed = {path for path in tiffs if is_raster(path)}
    except ImportError as error:
        for path in filter(_has_geo_tags, tiffs):
            print(f"warning: {path} is labelled as a plain picture, without its place: {error}", file=sys.stderr)
        placed = set()
    return (
        {path: name for path, name in pictures.items() if path not in placed},
        {path: name for path, name in pictures.items() if path in placed},
    )


def is_raster(path: Path) -> bool:
    """Returns whether a file is a TIFF that says where it lies, or is too large for Pillow.

    It says where it lies by a transform, ground control points or RPCs.

    Raises:
        ImportError: `rasterio` is not installed (the extra `raster`).
    """
    rasterio = import_rasterio()
    try:
        with open_raster(path) as dataset:
            placed = dataset.crs is not None or dataset.transform != rasterio.Affine.identity()
            return bool(placed or dataset.gcps[0] or dataset.rpcs or math.prod(dataset.shape) > largest_picture())
    except ValueError:
        return False


def _has_geo_tags(path: Path) -> bool:
    """Returns whether Pillow finds tags of GeoTIFF in a file: scale, tie points or transform, keys."""
    try:
        with Image.open(path, formats=["TIFF"]) as picture:
            return any(tag in getattr(picture, "tag_v2", {}) for tag in (33550, 33922, 34264, 34735))
    except (OSError, SyntaxError, ValueError):
        return False


def label_raster(
    segmentor: "Segmentor",
    path: str | Path,
    out: str | Path,
    *,
    bands: Sequence[int] = (),
    percentiles: Sequence[float] | None = None,
    blend: str = "taper",
    progress: Callable[[int, int], None] = lambda done, count: None,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Writes the labels of a GeoTIFF as a GeoTIFF of the same size and place: see `Segmentor.predict_raster`.

    Args:
        progress: called with the number of finished windows and of all windows.
        say: takes a line on the raster and its windows.
    """
    if blend not in BLENDS:
        raise ValueError(f"blend is one of {', '.join(BLENDS)}, got {blend}")
    check_file(out)
    with open_raster(path) as dataset:
        source = RasterSource.of(segmentor, dataset, bands, percentiles)
        windows = raster_windows(segmentor, dataset.shape)
        run = WindowRunner(segmentor, source, windows)
        nodata = _nodata(segmentor.ids) if may_be_invalid(dataset, source.bands) else None
        stripes = list(cut_stripes(windows, run.stripe_width()))
        counts = [len(stripe.windows.tops) * len(stripe.windows.lefts) for stripe in stripes]
        total = sum(counts)
        say(f"{path}: {_plan(dataset, source.bands, windows.window, counts)}")
        if any("Resize" in step["type"] for step in trained_pipeline(segmentor)):
            say("the raster is not scaled: the test of the model scales pictures, and a raster has its own resolution")

        def blocks() -> Iterator[tuple[Any, np.ndarray]]:
            for stripe, done in zip(stripes, accumulate(counts, initial=0), strict=False):
                yield from run.blocks(stripe, blend, lambda now, _: progress(done + now, total))  # noqa: B023

        def write(part: Path) -> None:
            with import_rasterio().open(part, "w", **_profile(dataset, segmentor, nodata)) as target:
                _describe(target, dataset, segmentor)
                for window, labels in blocks():
                    if nodata is not None:
                        labels[~valid_pixels(dataset, source.bands, window)] = nodata
                    target.write(labels, 1, window=window)
            with import_rasterio().open(part, "r+") as target:
                target.build_overviews(_overview_factors(dataset.shape), import_rasterio().enums.Resampling.nearest)

        write_whole(Path(out), write)
    names = dict(zip(segmentor.ids.tolist(), segmentor.classes, strict=True))
    write_whole(Path(f"{out}.aux.xml"), lambda part: part.write_bytes(category_names(names)))


def _plan(dataset: Any, bands: Sequence[int], window: Sequence[int], counts: Sequence[int]) -> str:
    """Describes the raster and its windows, of which there are `counts` in each stripe."""
    total, stripes = sum(counts), len(counts)
    return (
        f"{dataset.height} x {dataset.width} px, bands {', '.join(map(str, bands))} of {dataset.dtypes[0]}, {total} "
        f"window{'s' * (total > 1)} of {window[0]} x {window[1]} px in {stripes} stripe{'s' * (stripes > 1)}"
    )


def _nodata(ids: np.ndarray) -> int:
    """Returns an id for pixels without a label: 255, or else 0; raises ValueError if classes have both."""
    free = [value for value in (255, 0) if value not in ids]
    if not free:
        raise ValueError("the raster has pixels without data, and classes have both of the ids 255 and 0 for them")
    return free[0]


def _profile(dataset: Any, segmentor: "Segmentor", nodata: int | None) -> dict[str, Any]:
    """Returns how the labels are written: size and place of the raster, blocks, compression."""
    gcps, gcp_crs = dataset.gcps
    place: dict[str, Any] = dict(crs=dataset.crs, transform=dataset.transform)
    if gcps:
        place = dict(gcps=gcps, crs=gcp_crs)
    if dataset.rpcs:
        place["rpcs"] = dataset.rpcs
    return dict(
        driver="GTiff",
        height=dataset.height,
        width=dataset.width,
        count=1,
        dtype=segmentor.ids.dtype,
        nodata=nodata,
        tiled=True,
        blockxsize=BLOCK,
        blockysize=BLOCK,
        compress="deflate",
        bigtiff="if_safer",
        **place,
    )


def _describe(target: Any, dataset: Any, segmentor: "Segmentor") -> None:
    """Writes colours and names of the classes, and whether pixels are areas or points."""
    ids = segmentor.ids.tolist()
    if segmentor.ids.dtype == np.uint8:
        target.write_colormap(1, {id_: tuple(colour) for id_, colour in zip(ids, segmentor.palette, strict=True)})
    target.set_band_description(1, "class")
    target.update_tags(1, **{f"class_{id_}": name for id_, name in zip(ids, segmentor.classes, strict=True)})
    if kind := dataset.tags().get("AREA_OR_POINT"):
        target.update_tags(AREA_OR_POINT=kind)


def _overview_factors(shape: tuple[int, int]) -> list[int]:
    return [2**power for power in range(1, 16) if max(shape) > 2 ** (power - 1) * BLOCK]


def category_names(names: dict[int, str]) -> bytes:
    """Returns GDAL's side file (`.aux.xml`) with the name of each id, which GIS programs show as a legend."""
    root = ET.Element("PAMDataset")
    categories = ET.SubElement(ET.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for id_ in range(max(names) + 1):
        ET.SubElement(categories, "Category").text = names.get(id_, "")
    return ET.tostring(root, encoding="utf-8")
