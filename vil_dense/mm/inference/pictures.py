"""Finds and opens the pictures that are to be labelled."""

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vil_dense.files import describe_skipped
from vil_dense.mm.datasets.pictures import FORMATS, SUFFIXES, pictures_below

UNREADABLE = (Image.DecompressionBombError, OSError, SyntaxError, ValueError)
"""Errors of `read_picture`, and of Pillow for some damaged files."""
SLIDES = (".bif", ".mrxs", ".ndpi", ".scn", ".svs")
"""Endings of whole slides of microscopes, in lower case. Most are TIFFs, of which GDAL reads those that hold JPEG."""
LISTS = (".csv", ".lst", ".txt")
"""Endings of text files, in lower case, which may list pictures."""
TIFF_OPTIONS = "--tile --pyramid --compression jpeg --bigtiff writes a TIFF"
_OPENING = threading.Lock()
"""Python's filters of warnings are those of all threads."""


def largest_picture() -> int:
    """Returns how many px a picture may have that Pillow opens; larger ones are an error."""
    return 2 * (Image.MAX_IMAGE_PIXELS or 0)


def find_pictures(inputs: Sequence[str]) -> dict[Path, Path]:
    """Returns the pictures of `inputs`, and for each the path of its result below the output folder, without suffix.

    The path is that below an input which is a folder, or the name. Where two would be the same, as of two folders with
    the same names, all paths are those below the folder that the pictures share.

    Raises:
        FileNotFoundError: an input that is not there, or a folder without pictures.
        ValueError: two pictures whose results would have one name: files of one folder that differ in their endings.
    """
    found: dict[Path, Path] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            inside = pictures_below(entry)
            if not inside:
                raise FileNotFoundError(f"no pictures in {entry} (looked for {' '.join(SUFFIXES)})")
            if skipped := describe_skipped(entry, inside):
                print(f"warning: {skipped}", file=sys.stderr)
            found.update({path: path.relative_to(entry).with_suffix("") for path in inside})
        elif entry.is_file():
            found[entry] = Path(entry.stem)
        else:
            raise FileNotFoundError(f"no picture or folder at {entry}")
    if len({*found.values()}) < len(found):
        shared = os.path.commonpath([os.path.abspath(path.parent) for path in found])
        found = {path: Path(os.path.abspath(path)).relative_to(shared).with_suffix("") for path in found}
    owner: dict[Path, Path] = {}
    for path, name in found.items():
        if owner.setdefault(name, path) != path:
            raise ValueError(f"{owner[name]} and {path} would both be written as {name}.png")
    return found


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture as mmcv does, (H, W, 3) RGB uint8, rotated by its EXIF orientation.

    A file of several pages, as TIFF and GIF can have, gives the first page and a `UserWarning` that names the file.

    Raises:
        OSError: it is damaged.
        ValueError: its pixels have more than 8 bits, which Pillow would cut off at 255.
        Image.DecompressionBombError: it is larger than Pillow's limit of 179 million px.
    """
    with open_first_page(path) as picture:
        return eight_bit_rgb(picture)


def open_first_page(path: Path) -> Image.Image:
    """Opens a picture at its first page, with a `UserWarning` if there are more; raises as `read_picture` does."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from half the limit on
        picture = Image.open(path, formats=FORMATS)
    pages = getattr(picture, "n_frames", 1)
    if pages > 1:
        warnings.warn(f"{path} has {pages} pages, and only the first one is labelled", stacklevel=2)
        picture.seek(0)
    return picture


def eight_bit_rgb(picture: Image.Image) -> np.ndarray:
    """Returns the pixels of a picture, (H, W, 3) RGB uint8, rotated by its EXIF orientation.

    Raises:
        ValueError: its pixels have more than 8 bits.
    """
    if picture.mode.startswith(("I", "F")):
        raise ValueError(f"its pixels are of Pillow's mode {picture.mode}, and 8 bits a channel were expected")
    return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


def why_unread(path: Path, error: Exception) -> str:
    """Returns the path of a picture and why it cannot be read."""
    if isinstance(error, Image.DecompressionBombError):
        return f"{path} (more than the {largest_picture():,} px that Pillow opens: as a TIFF it is labelled in windows)"
    if path.suffix.lower() in SLIDES:
        return f"{path} (GDAL cannot read this whole slide: vips tiffsave {path.name} {path.stem}.tif {TIFF_OPTIONS})"
    if path.suffix.lower() in LISTS:
        return f"{path} (not a picture: of a list of pictures, name each as an input, with $(cat {path}) or xargs)"
    why = f"not one of {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
    return f"{path} ({why})"
