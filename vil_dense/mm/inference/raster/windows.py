"""Runs the network on windows that are read from a GeoTIFF, stripe by stripe of its columns."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from torch import Tensor

from vil_dense.mm.datasets.transforms.raster import (
    LoadRasterFromFile,
    choose_bands,
    import_rasterio,
    percentile_ranges,
    read_bands,
    scale_bands,
)
from vil_dense.mm.datasets.wrappers import config_parts
from vil_dense.mm.inference.image_format import after_loading
from vil_dense.mm.inference.sliding_window import Cut, choose_windows, classes_of, cut, window_bands

if TYPE_CHECKING:
    from vil_dense.mm.inference.segmentor import Segmentor

BLOCK = 512
"""Side of a block of the written file, in px."""
LIVE_BYTES = 2**29
"""Size of the logits of windows that are held at one time; bounds the width of a stripe."""
PIXEL_BYTES = 2**28
"""Size of the pixels of a row of windows, and of where they are valid; bounds the width of a stripe, too."""
WHOLE_PX = 1024
"""Side of the largest raster that is one window where the config has none; larger ones have windows of `WINDOW_PX`."""
WINDOW_PX = 512


class RasterSource(NamedTuple):
    """Holds an open raster, the bands to read, and what brings them, (C, h, w), to what the loading step gives."""

    dataset: Any
    bands: list[int]
    convert: Callable[[np.ndarray, np.ndarray | None], np.ndarray]

    @classmethod
    def of(
        cls, segmentor: "Segmentor", dataset: Any, bands: Sequence[int], percentiles: Sequence[float] | None
    ) -> "RasterSource":
        """Chooses bands and scaling; raises ValueError if the model was trained on others."""
        load, wanted = segmentor.format.load, segmentor.format.channels
        by_raster = load if isinstance(load, LoadRasterFromFile) else None
        chosen = choose_bands(dataset, bands or (by_raster.bands if by_raster else None), wanted)
        ranges = percentile_ranges(dataset, chosen, percentiles) if percentiles is not None else None
        if by_raster:
            ranges = ranges or by_raster.ranges_of(dataset, chosen)
            return cls(dataset, chosen, lambda pixels, valid: scale_bands(pixels, valid, ranges))
        kind = dataset.dtypes[chosen[0] - 1]
        if ranges is None and kind != "uint8" and not (segmentor.format.deep and kind == "uint16"):
            raise ValueError(
                f"{dataset.name} has {kind} pixels, and the model was trained on 8 bits: scale each band by "
                "percentiles of the raster (--percentiles 2 98), or train with LoadRasterFromFile"
            )

        def convert(pixels: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
            if ranges is not None:
                return segmentor.format.array(np.rint(scale_bands(pixels, valid, ranges)).astype(np.uint8))
            return segmentor.format.array(np.ascontiguousarray(pixels.transpose(1, 2, 0)))

        return cls(dataset, chosen, convert)


class Stripe(NamedTuple):
    """Stores the windows that cover the px columns `start` to `stop`; they are counted from the column `origin`."""

    windows: Cut
    origin: int
    start: int
    stop: int


def cut_stripes(windows: Cut, width: int) -> Iterator[Stripe]:
    """Yields stripes of `width` px columns with all windows that reach into each."""
    across = windows.window[1]
    for start in range(0, windows.size[1], width):
        stop = min(start + width, windows.size[1])
        lefts = [left for left in windows.lefts if left < stop and left + across > start]
        origin, end = lefts[0], lefts[-1] + across
        size = windows.size[0], end - origin
        yield Stripe(Cut(size, windows.window, windows.tops, [left - origin for left in lefts]), origin, start, stop)


class WindowRunner:
    """Runs the network on windows of a raster."""

    def __init__(self, segmentor: "Segmentor", source: RasterSource, windows: Cut) -> None:
        self.segmentor, self.source, self.windows = segmentor, source, windows
        with DefaultScope.overwrite_default_scope(segmentor.trained.cfg.get("default_scope", "mmseg")):
            self.pipeline = after_loading(trained_pipeline(segmentor), own_size=True)
        top = self._read(0, 0, windows.window[1])
        self.empty = torch.zeros_like(self._logits([self._crop(*top, 0)]))
        """Logits of a window without a valid pixel, whatever they are: (1, K, h, w)."""

    def stripe_width(self) -> int:
        """Returns the width of a stripe in px, a multiple of `BLOCK`: within `LIVE_BYTES` and `PIXEL_BYTES`."""
        (height, width), tops, lefts = self.windows.window, self.windows.tops, self.windows.lefts
        down = tops[1] - tops[0] if len(tops) > 1 else height
        across = lefts[1] - lefts[0] if len(lefts) > 1 else width
        rows = math.ceil(height / down) + 1
        by_logits = LIVE_BYTES // (rows * self.empty.nbytes) * across
        masks = 3  # bytes of a pixel while a row is read: the mask of GDAL, and arrays of what is valid
        kind = np.dtype(self.source.dataset.dtypes[0])
        by_pixels = PIXEL_BYTES // (max(height, BLOCK) * len(self.source.bands) * (kind.itemsize + masks))
        return max((min(by_logits, by_pixels) - width) // BLOCK, 1) * BLOCK

    @torch.no_grad()
    def blocks(
        self, stripe: Stripe, blend: str, progress: Callable[[int, int], None]
    ) -> Iterator[tuple[Any, np.ndarray]]:
        """Yields rasterio's window of each row of blocks of a stripe, and its labels, ids (h, w)."""
        segmentor, height = self.segmentor, stripe.windows.size[0]
        make_window = import_rasterio().windows.Window
        bands = window_bands(
            self._logits_at(stripe),
            stripe.windows,
            align_corners=segmentor.model.align_corners,
            tapered=blend == "taper",
            batch=segmentor.batch,
            progress=progress,
        )
        columns = slice(stripe.start - stripe.origin, stripe.stop - stripe.origin)
        waiting = np.empty((0, stripe.stop - stripe.start), segmentor.ids.dtype)
        for start, logits in bands:
            indices = classes_of(segmentor.model, logits[..., columns]).cpu().numpy().astype(np.intp)
            waiting = np.concatenate([waiting, segmentor.ids[indices]])
            end = start + len(indices)
            top = end - len(waiting)
            while len(waiting) >= BLOCK or (end == height and len(waiting)):
                block_row, waiting = waiting[:BLOCK], waiting[BLOCK:]
                yield make_window(stripe.start, top, block_row.shape[1], len(block_row)), block_row
                top += BLOCK
            waiting = waiting.copy()

    def _logits_at(self, stripe: Stripe) -> Callable[[int, Sequence[int]], Tensor]:
        """Returns a function for the logits of windows of a stripe, which reads each row of windows once."""
        row: dict[int, tuple[np.ndarray, np.ndarray | None]] = {}

        def logits_at(top: int, lefts: Sequence[int]) -> Tensor:
            if top not in row:
                row.clear()
                row[top] = self._read(top, stripe.origin, stripe.windows.size[1])
            pixels, valid = row[top]
            across = self.windows.window[1]
            used = [valid is None or bool(valid[..., left : left + across].any()) for left in lefts]
            if not any(used):
                return self.empty.expand(len(lefts), -1, -1, -1)
            crops = [self._crop(pixels, valid, left) for left, any_ in zip(lefts, used, strict=True) if any_]
            found = iter(self._logits(crops))
            return torch.stack([next(found) if any_ else self.empty[0] for any_ in used])

        return logits_at

    def _read(self, top: int, left: int, width: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Reads the px columns of a row of windows."""
        window = import_rasterio().windows.Window(left, top, width, self.windows.window[0])
        return read_bands(self.source.dataset, self.source.bands, window)

    def _crop(self, pixels: np.ndarray, valid: np.ndarray | None, left: int) -> np.ndarray:
        """Returns a window as the loading step gives it."""
        columns = slice(left, left + self.windows.window[1])
        return self.source.convert(pixels[..., columns], None if valid is None else valid[..., columns])

    @torch.no_grad()
    def _logits(self, crops: list[np.ndarray]) -> Tensor:
        """Returns the logits (B, K, h, w) of windows; padding that the data preprocessor added is cut off."""
        model = self.segmentor.model
        data = model.data_preprocessor(pseudo_collate([self.pipeline(dict(img=crop)) for crop in crops]), False)
        meta = data["data_samples"][0].metainfo
        left, right, upper, lower = meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0)))
        height, width = data["inputs"].shape[2:]
        if (height - upper - lower, width - left - right) != self.windows.window:
            raise ValueError("the test pipeline of the model changes the size of pictures, which a raster cannot")
        logits = self.segmentor.logits(data["inputs"])
        if not any((left, right, upper, lower)):
            return logits
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=model.align_corners)
        return logits[..., upper : height - lower, left : width - right]


def trained_pipeline(segmentor: "Segmentor") -> Sequence[Any]:
    """Returns the steps of the test pipeline of a model, as its config has them."""
    return next(config_parts(segmentor.trained.cfg.test_dataloader.dataset)).pipeline


def raster_windows(segmentor: "Segmentor", size: tuple[int, int]) -> Cut:
    """Returns the windows of a raster of `size`, (H, W) px: those of the model's test, or see `WHOLE_PX`."""
    test_cfg = segmentor.model.test_cfg
    if test_cfg.get("mode", "whole") != "slide" and max(size) > WHOLE_PX:
        test_cfg = choose_windows(dict(test_cfg), window=[WINDOW_PX])
    return cut(size, test_cfg)
