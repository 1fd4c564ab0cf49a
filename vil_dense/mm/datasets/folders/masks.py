"""Reads masks of every kind: ids of 1 to 16 bits, palettes, colours."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from PIL import Image

from vil_dense.mm.datasets.folders.pairs import few
from vil_dense.mm.datasets.label_ids import IGNORED
from vil_dense.mm.datasets.pictures import open_picture
from vil_dense.mm.datasets.transforms.raster import ignore_nodata, valid_pixels_of

MOST_VALUES = 4096
"""Values of a mask; a file with more is a picture."""
NODATA = -(2**31)
"""Value of pixels that a GeoTIFF marks as nodata."""
GREYS = ("1", "L", "LA", "P", "PA", "I", "I;16", "I;16B", "I;16L")
"""Pillow's modes of one number for each pixel (and transparency)."""


class MaskValues(NamedTuple):
    """Counts the pixels of each value of a mask.

    Args:
        size: height and width in px.
        ids: pixels of each id; None where the mask has colours.
        colours: pixels of each colour, red * 65536 + green * 256 + blue; those of the palette, if there is one.
        palette: the colour of each id that occurs, of a mask with a palette.
    """

    size: tuple[int, int]
    ids: Counter[int] | None
    colours: Counter[int]
    palette: dict[int, int]


@dataclass
class Values:
    """Counts the pixels of each value over many masks.

    Args:
        ids: pixels of each id.
        colours: pixels of each colour.
        palette: the colour of each id in the palettes of the masks.
        coloured: a mask with colours; empty if there is none.
        mixed: a mask whose palette has another colour for an id than a mask before; empty if there is none.
        read: number of masks.
    """

    ids: Counter[int] = field(default_factory=Counter)
    colours: Counter[int] = field(default_factory=Counter)
    palette: dict[int, int] = field(default_factory=dict)
    coloured: str = ""
    mixed: str = ""
    read: int = 0

    def add(self, path: Path) -> None:
        """Adds the values of a mask; raises ValueError if it cannot be read, or is a picture."""
        counted = count_values(path)
        if len(counted.colours) > MOST_VALUES:
            raise ValueError(f"{path} holds {len(counted.colours)} values: it is a picture, not a mask")
        self.read += 1
        self.colours.update(counted.colours)
        if counted.ids is None:
            self.coloured = self.coloured or str(path)
        else:
            self.ids.update(counted.ids)
        if any(self.palette.get(id_, colour) != colour for id_, colour in counted.palette.items()):
            self.mixed = self.mixed or str(path)
        self.palette.update(counted.palette)


def read_mask(path: Path, colours: bool = False) -> np.ndarray:
    """Reads the values of a mask, (H, W) int32: ids, or colours as red * 65536 + green * 256 + blue.

    A palette gives ids, and colours if `colours` asks for them. Grey values saved as colours are ids. Nodata pixels of
    a GeoTIFF are `NODATA`.

    Raises:
        ValueError: the file is damaged, lossy (JPEG), has numbers that are no integers, or colours in place of ids.
        ImportError: it has a nodata value, and `rasterio` is not installed.
    """
    return _values(_open(path), path, colours)


def _values(mask: Image.Image, path: Path, colours: bool) -> np.ndarray:
    """Returns the values of the mask that was read from `path`, see `read_mask`."""
    if colours:
        values = packed(np.asarray(mask.convert("RGB")))
    elif mask.mode in GREYS:
        values = np.asarray(mask.getchannel(0) if mask.mode in ("LA", "PA") else mask).astype(np.int32)
    else:
        channels = np.asarray(mask.convert("RGB"))
        if (channels != channels[..., :1]).any():
            raise ValueError(f"{path} has colours, and ids were expected: set coding='colours' of the data set")
        values = channels[..., 0].astype(np.int32)
    valid = valid_pixels_of(path)
    if valid is not None:
        values[~valid] = NODATA
    return values


def count_values(path: Path) -> MaskValues:
    """Counts the values of a mask, without nodata pixels; raises as `read_mask` does."""
    mask = _open(path)
    if mask.mode not in GREYS:
        pixels = _values(mask, path, colours=True)
        seen = _count(pixels)
        grey = all(value % 0x010101 == 0 for value in seen)
        ids = Counter({value // 0x010101: count for value, count in seen.items()}) if grey else None
        return MaskValues(pixels.shape, ids, seen, {})
    pixels = _values(mask, path, colours=False)
    ids, palette = _count(pixels), {}
    if mask.mode == "P":
        table = np.array(mask.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        colours = packed(table).tolist()
        palette = {id_: colours[id_] for id_ in ids if id_ < len(colours)}
    return MaskValues(pixels.shape[:2], ids, _recoloured(ids, palette), palette)


def packed(channels: np.ndarray) -> np.ndarray:
    """Returns colours (..., 3) uint8 as one number each, (...) int32."""
    red, green, blue = np.moveaxis(channels.astype(np.int32), -1, 0)
    return (red << 16) + (green << 8) + blue


def unpacked(value: int) -> list[int]:
    """Returns red, green and blue of a colour that is one number."""
    return [value >> 16, value >> 8 & 255, value & 255]


def _recoloured(ids: Counter[int], palette: dict[int, int]) -> Counter[int]:
    colours: Counter[int] = Counter()
    for id_, count in ids.items():
        colours[palette.get(id_, min(max(id_, 0), 255) * 0x010101)] += count
    return colours


def _count(values: np.ndarray) -> Counter[int]:
    found, counts = np.unique(values[values != NODATA], return_counts=True)
    return Counter(dict(zip(found.tolist(), counts.tolist(), strict=True)))


def _open(path: Path) -> Image.Image:
    """Reads a mask with Pillow, in whole."""
    with open_picture(path, "mask") as mask:
        mask.load()
    if mask.format == "JPEG":
        raise ValueError(f"{path} is a JPEG, which changes the ids of a mask: write it anew as PNG from its source")
    if mask.mode not in (*GREYS, "RGB", "RGBA", "RGBX"):
        raise ValueError(f"{path} has pixels of Pillow's mode {mask.mode}: a mask has integers or colours")
    return mask


@TRANSFORMS.register_module()
class LoadMask(BaseTransform):
    """Reads `seg_map_path` to `gt_seg_map`, (H, W) uint8: the class of each pixel, 255 where it is ignored.

    A sample without `seg_map_path` is left as it is.
    `label_map` of the sample gives the class of each value; `coding` says whether values are `ids` or `colours`.
    Nodata pixels of a mask, and those of which no band of the picture at `img_path` is valid, are ignored (GeoTIFF).

    Raises:
        ValueError: the mask cannot be read, or holds a value that `label_map` does not know; names both.
        ImportError: a file has a nodata value, and `rasterio` is not installed.
    """

    def transform(self, results: dict) -> dict:
        if "seg_map_path" not in results:  # as in mmseg's `inference_model`, which leaves out `LoadAnnotations` alone
            return results
        path, label_map = Path(results["seg_map_path"]), {**results["label_map"], NODATA: IGNORED}
        colours = results.get("coding") == "colours"
        values = read_mask(path, colours)
        known = np.array(sorted(label_map))
        places = np.searchsorted(known, values).clip(max=len(known) - 1)
        if (strange := known[places] != values).any():
            found = few(show(value, colours) for value in np.unique(values[strange]).tolist())
            raise ValueError(
                f"{path} holds {found}, which no class of the data set has: add it to classes.json, or to ignore"
            )
        classes = np.array([label_map[value] for value in known.tolist()], dtype=np.uint8)
        label = classes[places]
        ignore_nodata(label, results["img_path"], path)
        results["gt_seg_map"] = label
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results


def show(value: int, colours: bool) -> str:
    """Returns an id as a number, and a colour as #rrggbb."""
    return f"#{value:06x}" if colours else str(value)
