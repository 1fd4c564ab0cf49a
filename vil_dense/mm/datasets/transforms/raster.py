"""Loads GeoTIFF tiles of any number of bands and bits, and their labels; nodata becomes ignored pixels.

rasterio is imported when a file is opened, so that a config can be read without it. Only GeoTIFF (also BigTIFF and
COG) is opened: other drivers of GDAL may follow what a file names to other files and servers.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from PIL import Image

from vil_dense.mm.datasets.label_ids import IGNORED, trained_ids

CACHE_BYTES = 2**26
"""Size of GDAL's cache of decoded blocks; its own default is a share of the machine's memory."""
NODATA_TAG = 42113
"""Number of the TIFF tag in which GDAL stores the nodata value."""
SAMPLE_PX = 1024
"""Percentiles of a raster are those of its pixels on a grid of at most this many rows and columns."""

Ranges = list[tuple[float, float]]
"""The lowest and the highest value of each band, which become 0 and 255."""


def import_rasterio() -> Any:
    """Returns the package `rasterio`.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise ImportError("GeoTIFF needs rasterio: pip install 'vil_dense[raster]'") from error
    return rasterio


@contextmanager
def open_raster(path: str | Path) -> Iterator[Any]:
    """Opens a GeoTIFF for reading, with little cache; it need not be georeferenced.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no GeoTIFF, or damaged: also while it is read in the block.
    """
    rasterio = import_rasterio()
    if not Path(path).is_file():
        raise FileNotFoundError(f"no raster at {path}")
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES), warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path, driver="GTiff") as dataset:
                yield dataset
    except rasterio.errors.RasterioIOError as error:
        raise ValueError(f"{path} is not a complete GeoTIFF: {error.__cause__ or error}") from error


def choose_bands(dataset: Any, bands: Sequence[int] | None, channels: int | None = None) -> list[int]:
    """Returns the bands to read, counted from 1: those asked for, or else all but a last one that is alpha.

    Raises:
        ValueError: there are no such bands, or not as many as the network has channels.
    """
    where = f"{dataset.name} has {dataset.count} band{'s' * (dataset.count > 1)}"
    if bands:
        if outside := [band for band in bands if not 1 <= band <= dataset.count]:
            raise ValueError(f"{where}, and band {outside[0]} was asked for: bands are counted from 1")
        chosen = list(bands)
    else:
        chosen = list(range(1, dataset.count + 1))
        if len(chosen) > 1 and dataset.colorinterp[-1].name == "alpha" and len(chosen) != channels:
            chosen.pop()
    if channels is not None and len(chosen) != channels:
        what = f", and {len(chosen)} were chosen" if bands else ""
        raise ValueError(f"{where}{what}, and the model takes {channels}: choose {channels} by their numbers (--bands)")
    return chosen


def read_bands(dataset: Any, bands: Sequence[int], window: Any = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the pixels of some bands, (C, H, W), and where they are valid, (C, H, W) bool; None if they all are.

    Pixels are invalid where the file says so (nodata, mask, alpha), and where they are NaN or infinite.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        pixels: np.ndarray = dataset.read(list(bands), window=window)
        valid = dataset.read_masks(list(bands), window=window) > 0 if _marks_invalid(dataset, bands) else None
    except import_rasterio().errors.RasterioIOError as error:
        raise ValueError(f"{dataset.name} is not a complete GeoTIFF: {error.__cause__ or error}") from error
    if pixels.dtype.kind == "f" and not (finite := np.isfinite(pixels)).all():
        valid = finite if valid is None else finite & valid
    return pixels, valid


def percentile_ranges(dataset: Any, bands: Sequence[int], percentiles: Sequence[float]) -> Ranges:
    """Returns the values of each band at two percentiles of its valid pixels, on a grid over the raster.

    Raises:
        ValueError: the percentiles are not two numbers that rise in 0..100, or a band has one value only.
    """
    low, high = check_pair(percentiles, "percentiles", 0, 100)
    shape = tuple(min(length, SAMPLE_PX) for length in dataset.shape)
    sample = dataset.read(list(bands), out_shape=(len(bands), *shape), masked=True)
    ranges = []
    for band, pixels in zip(bands, sample, strict=True):
        values = pixels.compressed()
        values = values[np.isfinite(values)]
        ends = np.percentile(values, [low, high]).tolist() if values.size else [0.0, 0.0]
        if ends[0] == ends[1]:
            raise ValueError(
                f"band {band} of {dataset.name} is {ends[0]:g} at both percentiles: it cannot be scaled by them"
            )
        ranges.append((ends[0], ends[1]))
    return ranges


def scale_bands(pixels: np.ndarray, valid: np.ndarray | None, ranges: Ranges | None) -> np.ndarray:
    """Returns bands (C, H, W) as an image (H, W, C) float32, scaled and cut off to 0..255; 0 where they are invalid."""
    image = np.ascontiguousarray(pixels.transpose(1, 2, 0)).astype(np.float32)
    if ranges is not None:
        low, high = np.array(ranges, np.float32).T
        image = ((image - low) * (255 / (high - low))).clip(0, 255)
    if valid is not None:
        image[~valid.transpose(1, 2, 0)] = 0
    return image


def check_pair(value: object, name: str, least: float = -np.inf, most: float = np.inf) -> tuple[float, float]:
    """Returns two numbers that rise; raises ValueError for something else."""
    pair = list(value) if isinstance(value, (list, tuple)) else []
    numbers = len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair)
    if not numbers or not least <= pair[0] < pair[1] <= most:
        limits = f" from {least:g} to {most:g}" if np.isfinite(least) else ""
        raise ValueError(f"{name} are two numbers{limits}, the lower one first; got {value}")
    return pair[0], pair[1]


@TRANSFORMS.register_module()
class LoadRasterFromFile(BaseTransform):
    """Loads the bands of a GeoTIFF at `img_path` to `img`, (H, W, C) float32, in the order of `bands`.

    Values stay those of the file, or are scaled to 0..255, so that `mean` and `std` of the data preprocessor, one for
    each band, are on that scale. Invalid pixels (nodata, mask, alpha, NaN) become 0 after the scaling.

    Args:
        bands: numbers of the bands, counted from 1; None takes all but a last one that is alpha.
        ranges: the two values that become 0 and 255: a pair for all bands, or one for each.
        percentiles: two percentiles of each file instead, such as (2, 98).

    Raises:
        ValueError: arguments that contradict each other; a file that is damaged or has no such bands.
        ImportError: `rasterio` is not installed (the extra `raster`).
    """

    def __init__(
        self,
        bands: Sequence[int] | None = None,
        ranges: Sequence[Any] | None = None,
        percentiles: Sequence[float] | None = None,
    ) -> None:
        if ranges is not None and percentiles is not None:
            raise ValueError("LoadRasterFromFile takes ranges or percentiles, not both")
        if percentiles is not None:
            check_pair(percentiles, "percentiles", 0, 100)
        self.bands, self.percentiles = bands, percentiles
        each = ranges is not None and not isinstance(ranges[0], (int, float))
        self.ranges = [check_pair(pair, "ranges") for pair in (ranges if each else [ranges])] if ranges else None

    def ranges_of(self, dataset: Any, bands: Sequence[int]) -> Ranges | None:
        """Returns the values of each of `bands` that become 0 and 255; None if values stay."""
        if self.percentiles is not None:
            return percentile_ranges(dataset, bands, self.percentiles)
        if self.ranges is None:
            return None
        if len(self.ranges) not in (1, len(bands)):
            raise ValueError(f"LoadRasterFromFile has ranges for {len(self.ranges)} bands, and {len(bands)} are read")
        return self.ranges * (len(bands) // len(self.ranges))

    def transform(self, results: dict) -> dict:
        with open_raster(results["img_path"]) as dataset:
            bands = choose_bands(dataset, self.bands)
            pixels, valid = read_bands(dataset, bands)
            image = scale_bands(pixels, valid, self.ranges_of(dataset, bands))
        results.update(img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2])
        return results


@TRANSFORMS.register_module()
class LoadRasterAnnotations(BaseTransform):
    """Loads the one band of a GeoTIFF at `seg_map_path` to `gt_seg_map`, (H, W) uint8, as mmseg's `LoadAnnotations`.

    Pixels that are nodata in the label, and those of which no band of the picture at `img_path` is valid, become 255,
    which loss and metric ignore. A sample without `seg_map_path` is left as it is.

    Raises:
        ValueError: a file is damaged, the label holds no ids from 0 to 255, or picture and label differ in size.
        ImportError: `rasterio` is not installed (the extra `raster`).
    """

    def transform(self, results: dict) -> dict:
        if "seg_map_path" not in results:
            return results
        path = results["seg_map_path"]
        with open_raster(path) as dataset:
            if dataset.count != 1:
                raise ValueError(f"{path} has {dataset.count} bands: a label has one band of class ids")
            pixels, valid = read_bands(dataset, [1])
        ids = np.where(valid, pixels, 0)[0] if valid is not None else pixels[0]
        if ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() > 255:
            raise ValueError(f"{path} holds {ids.dtype} from {ids.min()} to {ids.max()}: ids are integers, 0 to 255")
        label = trained_ids(results)[ids].astype(np.uint8)
        if valid is not None:
            label[~valid[0]] = IGNORED
        ignore_nodata(label, results["img_path"], path)
        results["gt_seg_map"] = label
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results


def ignore_nodata(label: np.ndarray, image_path: str | Path, label_path: str | Path) -> None:
    """Sets the pixels of `label`, (H, W) uint8, to 255 of which no band of the TIFF at `image_path` is valid.

    Raises:
        ValueError: the TIFF is damaged, or has another size than its label.
        ImportError: it has a nodata value, and `rasterio` is not installed.
    """
    valid = valid_pixels_of(image_path)
    if valid is None:
        return
    if valid.shape != label.shape:
        (height, width), (rows, columns) = valid.shape, label.shape
        raise ValueError(f"{image_path} is {height} x {width} px and its label {label_path} {rows} x {columns}")
    label[~valid] = IGNORED


def valid_pixels_of(path: str | Path) -> np.ndarray | None:
    """Returns where any band of a TIFF is valid, (H, W) bool; None for files of other endings.

    Raises:
        ValueError: the TIFF is damaged.
        ImportError: it has a nodata value, and `rasterio` is not installed.
    """
    if Path(path).suffix.lower() not in (".tif", ".tiff"):
        return None
    if find_spec("rasterio") is None:
        with Image.open(path, formats=["TIFF"]) as picture:
            if NODATA_TAG not in picture.getexif():
                return None
    with open_raster(path) as dataset:
        return valid_pixels(dataset, choose_bands(dataset, None))


def valid_pixels(dataset: Any, bands: Sequence[int], window: Any = None) -> np.ndarray:
    """Returns where any of `bands` is valid, (H, W) bool."""
    if not may_be_invalid(dataset, bands):
        height, width = (window.height, window.width) if window else dataset.shape
        return np.ones((height, width), bool)
    pixels, valid = read_bands(dataset, bands, window)
    return np.ones(pixels.shape[1:], bool) if valid is None else np.logical_or.reduce(valid)


def may_be_invalid(dataset: Any, bands: Sequence[int]) -> bool:
    """Returns whether pixels of some bands can be invalid: the file marks such pixels, or holds floats."""
    return _marks_invalid(dataset, bands) or any(np.dtype(dataset.dtypes[band - 1]).kind == "f" for band in bands)


def _marks_invalid(dataset: Any, bands: Sequence[int]) -> bool:
    return any(flag.name != "all_valid" for band in bands for flag in dataset.mask_flag_enums[band - 1])


def read_to_show(path: str | Path) -> np.ndarray:
    """Returns a picture to look at, (H, W, 3) RGB uint8; of a TIFF with other bands or bits the first three, scaled."""
    if Path(path).suffix.lower() in (".tif", ".tiff"):
        try:
            with open_raster(path) as dataset:
                if dataset.count > 4 or set(dataset.dtypes) != {"uint8"}:
                    bands = [1, 2, 3] if dataset.count >= 3 else [1, 1, 1]
                    pixels, valid = read_bands(dataset, bands)
                    return scale_bands(pixels, valid, percentile_ranges(dataset, bands, (2, 98))).astype(np.uint8)
        except (ImportError, ValueError):
            pass  # OpenCV may still read it
    picture: np.ndarray = mmcv.imread(path, channel_order="rgb")
    return picture
