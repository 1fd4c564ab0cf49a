"""Reads pairs of picture and label map, with the checks before a training, and finds a pipeline's own label loaders."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine import fileio
from mmengine.dataset import BaseDataset
from mmseg.datasets.transforms import LoadAnnotations as SegLoadAnnotations
from PIL import ExifTags

from vil_dense.mm.datasets.pictures import open_picture
from vil_dense.mm.datasets.retry import read_with_retry


def loads_labels(kind: type | None) -> bool:
    """Returns whether a transform loads labels: a `LoadAnnotations`, or a `Load...` that loads no picture of mmcv's."""
    if not isinstance(kind, type):
        return False
    return issubclass(kind, LoadAnnotations) or (
        kind.__name__.startswith("Load") and not issubclass(kind, LoadImageFromFile)
    )


def own_loaders(dataset: BaseDataset) -> list[Callable[[dict], dict]]:
    """Returns the loading steps of a pipeline; empty if mmseg's `LoadAnnotations` loads labels, or none does."""
    steps = getattr(dataset.pipeline, "transforms", [])
    loaders = [step for step in steps if loads_labels(type(step))]
    return [] if all(type(step) is SegLoadAnnotations for step in loaders) else loaders


def keeps_bits(dataset: BaseDataset) -> bool:
    """Returns whether the pipeline of a data set reads pictures with all their bits (`color_type="unchanged"`)."""
    steps = getattr(dataset.pipeline, "transforms", [])
    return any(isinstance(step, LoadImageFromFile) and step.color_type == "unchanged" for step in steps)


def read_pair(picture: str, label: str, backend_args: dict | None = None, *, any_bits: bool = False) -> np.ndarray:
    """Reads the ids of a label, (H, W) uint8, and checks that its picture can be read and has the same size.

    Raises:
        ValueError: one of them is missing or damaged, they differ in size, the label holds no ids from 0 to 255, or
            the picture has not 8 bits and `any_bits` does not allow it.
    """
    ids = _decode(label, "label", backend_args)
    if ids.ndim != 2:
        raise ValueError(f"{label} has {ids.shape[2]} channels: a label has one channel of class ids, not colours")
    if ids.dtype.kind not in "biu":
        raise ValueError(f"{label} holds {ids.dtype} numbers: ids of classes are integers")
    if ids.min() < 0 or ids.max() > 255:
        raise ValueError(f"{label} holds the id {ids.min() if ids.min() < 0 else ids.max()}: ids are 0 to 255")
    _check_picture(picture, label, ids, backend_args, any_bits)
    return ids.astype(np.uint8)


def load_pair(pair: dict, loaders: Sequence[Callable[[dict], dict]], *, any_bits: bool = False) -> np.ndarray:
    """Reads a label by the pipeline's own steps, (H, W) uint8, and checks that its picture has the same size.

    Raises:
        ValueError: a step fails, or gives no ids from 0 to 255; or the picture cannot be used.
    """
    path, results = pair["seg_map_path"], pair.copy()
    try:
        for step in loaders:
            results = step(results)
        label = np.asarray(results["gt_seg_map"])
    except Exception as error:  # the user's own code
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(str(error) if path in str(error) else f"{path} cannot be loaded: {reason}") from error
    if label.ndim != 2 or label.dtype.kind not in "biu" or label.min() < 0 or label.max() > 255:
        raise ValueError(
            f"{path}: {type(loaders[-1]).__name__} gives gt_seg_map of {label.dtype} and shape {label.shape}, and "
            "(H, W) integers from 0 to 255 were expected"
        )
    if "img" in results:  # loaded by the user's own step, too
        _check_size(pair["img_path"], np.shape(results["img"])[:2], path, label)
    else:
        _check_picture(pair["img_path"], path, label, None, any_bits)
    return label.astype(np.uint8)


def _check_picture(picture: str, label: str, ids: np.ndarray, backend_args: dict | None, any_bits: bool) -> None:
    """Checks that a picture can be read and has the size of the ids (H, W) of its label."""
    pixels = _decode(picture, "picture", backend_args)
    if pixels.dtype not in (np.uint8, np.bool_) and not any_bits:
        raise ValueError(
            f"{picture} has {pixels.dtype} pixels, which would lose their lower bits: convert it to 8 bits, or load it "
            "with color_type='unchanged'"
        )
    _check_size(picture, pixels.shape[:2], label, ids)


def _check_size(picture: str, size: tuple[int, ...], label: str, ids: np.ndarray) -> None:
    if size != ids.shape:
        height, width = ids.shape
        raise ValueError(f"{picture} is {size[0]} x {size[1]} px and its label {label} {height} x {width}")


def _decode(path: str, what: str, backend_args: dict | None) -> np.ndarray:
    """Reads the pixels of a file; waits while it is unreachable.

    A picture is rotated by its EXIF orientation, as OpenCV does in training.
    """
    try:
        read = read_with_retry(lambda: fileio.get(path, backend_args=backend_args), [] if backend_args else [path])
    except FileNotFoundError:
        raise ValueError(f"there is no {what} at {path}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    with open_picture(path, what, io.BytesIO(read)) as image:
        rotated = what == "picture" and image.getexif().get(ExifTags.Base.Orientation, 1) > 4
        return np.asarray(image).swapaxes(0, 1) if rotated else np.asarray(image)
