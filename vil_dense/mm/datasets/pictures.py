"""Finds, opens and names pictures; no other format starts a program (Pillow hands EPS to one)."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset

from vil_dense.mm.datasets.wrappers import parts

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""For `PIL.Image.open(..., formats=FORMATS)`."""
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of pictures in folders, in lower case."""


def pictures_below(folder: str | Path) -> list[Path]:
    """Returns all pictures below a folder, sorted; hidden files and folders are left out."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(found)


@contextmanager
def open_picture(path: str | Path, what: str = "picture", content: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """Opens a picture with Pillow; its pixels are read when they are used.

    Args:
        path: of the file.
        what: the kind of picture, for the message.
        content: of the file, if it has been read already.

    Raises:
        ValueError: the file does not exist, is damaged or of an unknown format, also while it is read; names it. The
            error of Pillow is the cause.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from half of Pillow's limit on
            picture = Image.open(content or path, formats=FORMATS)
        with picture:
            yield picture
    except FileNotFoundError as error:
        raise ValueError(f"there is no {what} at {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = "unknown file format" if isinstance(error, UnidentifiedImageError) else error
        raise ValueError(f"{path} is not a complete {what}: {why}") from error


def check_two_files(picture: str | Path, label: str | Path) -> None:
    """Raises ValueError if a picture and its label are one file, whose pixels would be both."""
    if os.path.samefile(picture, label):
        raise ValueError(
            f"{picture} would be a picture and its own label: pictures and labels need folders or endings of their own"
        )


def output_name(path: str, dataset: Dataset) -> str:
    """Returns the path of a picture below the folder of its data set, without its ending.

    So pictures of one name in several folders do not collide. With several data sets the path is below the folder that
    they share; elsewhere it is the name alone.
    """
    prefixes = [getattr(part, "data_prefix", {}).get("img_path") for part in parts(dataset)]
    folders = [os.path.abspath(prefix) for prefix in prefixes if prefix]
    root = os.path.commonpath(folders) if folders else ""
    name = Path(os.path.abspath(path))
    return str(name.relative_to(root).with_suffix("")) if root and name.is_relative_to(root) else name.stem


def check_output_names(dataset: Any) -> None:
    """Raises ValueError if two pictures of a data set have one `output_name`, and so one file of results."""
    owner: dict[str, str] = {}
    for index in range(len(dataset)):
        path = dataset.get_data_info(index)["img_path"]
        name = output_name(path, dataset)
        if owner.setdefault(name, path) != path:
            raise ValueError(f"{owner[name]} and {path} would both be written as {name}.png")
