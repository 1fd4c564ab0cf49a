"""Encodes pictures and label maps for a page: small, and as data URIs, so that the page needs no other file."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

LONGEST_PX = 320
"""Longer side of a picture on a page."""
UNLABELLED = 255
"""Index of pixels without a class in label maps of a page."""
GREY = (128, 128, 128)
CORRECT, WRONG, IGNORED = range(3)
ERROR_COLOURS = ((232, 234, 237), (214, 40, 40), GREY)


def jpeg_uri(image: np.ndarray, longest: int = LONGEST_PX) -> str:
    """Returns a picture, (H, W, 3) uint8 RGB, as a JPEG of at most `longest` px a side in a data URI."""
    picture = Image.fromarray(image)
    picture.thumbnail((longest, longest))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def png_uri(content: bytes) -> str:
    """Returns the content of a PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def indexed_png(
    label: np.ndarray, palette: Sequence[Sequence[int]], longest: int = LONGEST_PX, transparent: int | None = None
) -> bytes:
    """Returns a label map as a PNG file of at most `longest` px a side, with the palette's colours.

    Args:
        label: (H, W) integers; those outside the palette become `UNLABELLED`, grey. At most 255 classes.
        palette: RGB of each class.
        transparent: a class that lets the page shine through.
    """
    known = (label >= 0) & (label < len(palette))
    picture = Image.fromarray(np.where(known, label, UNLABELLED).astype(np.uint8))
    scale = min(longest / max(picture.size), 1)
    size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    picture = picture.resize(size, Image.Resampling.NEAREST)
    colours = np.full((256, 3), GREY, dtype=np.uint8)
    colours[: len(palette)] = np.array(palette, dtype=np.uint8).reshape(-1, 3)
    picture.putpalette(colours.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", **({} if transparent is None else {"transparency": transparent}))
    return stream.getvalue()


def read_labels(content: bytes) -> np.ndarray:
    """Returns the label map of an `indexed_png`, (H, W) uint8.

    Raises:
        ValueError: the content is no such PNG.
    """
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            if picture.mode != "P":
                raise ValueError(f"its mode is {picture.mode}, not P")
            return np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"a label map was expected, a PNG with a palette: {error}") from None


def error_map(truth: np.ndarray, prediction: np.ndarray) -> bytes:
    """Returns a PNG file in which wrong pixels are red, unlabelled ones grey and the others transparent.

    Args:
        truth, prediction: (H, W) uint8 of the same size; `UNLABELLED` in the truth counts as unlabelled.
    """
    errors = np.where(truth == prediction, CORRECT, WRONG)
    return indexed_png(np.where(truth == UNLABELLED, IGNORED, errors), ERROR_COLOURS, transparent=CORRECT)


def choose_pictures(scores: Sequence[float], each: int = 4, seed: int = 0) -> dict[str, list[int]]:
    """Returns the positions of the worst, the best and some random pictures, none twice; NaN scores are left out."""
    ranked = [int(n) for n in np.argsort(scores, kind="stable") if not np.isnan(scores[n])]
    worst = ranked[:each]
    best = ranked[each:][::-1][:each]
    left = ranked[each : len(ranked) - len(best)]
    drawn = np.random.default_rng(seed).permutation(len(left))[:each]
    return dict(worst=worst, best=best, random=[left[n] for n in drawn])
