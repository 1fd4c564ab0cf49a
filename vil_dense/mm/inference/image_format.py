"""Converts a file, Pillow image, array or tensor to the array format that a model expects."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from mmcv.transforms import Compose, LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageOps

from vil_dense.mm.datasets.checks.pairs import loads_labels
from vil_dense.mm.inference.pictures import UNREADABLE, eight_bit_rgb, open_first_page, read_picture, why_unread

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray | torch.Tensor
EIGHT_BITS = ("color", "color_ignore_orientation", "grayscale", "grayscale_ignore_orientation")
"""Values of `color_type` of mmcv's loading step that reduce every file to 8 bits."""


@dataclass(frozen=True)
class ImageFormat:
    """Knows the arrays on which a model was trained, from the first step of its test pipeline.

    Attributes:
        channels: of the network's input.
        deep: whether files are read with all their bits (`color_type="unchanged"`), so that 16 bits stay 16 bits.
        only_deep: whether pixels must have 16 bits: the mean of the data preprocessor is above 255.
        bgr: whether the loading step gives the channels as blue, green, red.
        load: the loading step where it is another than mmcv's for colour pictures; None for that.
    """

    channels: int
    deep: bool
    only_deep: bool
    bgr: bool
    load: Callable[[dict], dict | None] | None

    @classmethod
    def of(cls, model: ConfigDict, step: ConfigDict) -> "ImageFormat":
        """Reads the format off the config of a model and of the first step of its test pipeline."""
        load = TRANSFORMS.build(Config(dict(step=step)).step)
        preprocessor = model.get("data_preprocessor") or {}
        by_mmcv = isinstance(load, LoadImageFromFile)
        channels = model.backbone.get("in_channels", 3)
        deep = not by_mmcv or load.color_type not in EIGHT_BITS
        return cls(
            channels=channels,
            deep=deep,
            only_deep=deep and max([*(preprocessor.get("mean") or [0])]) > 255,
            bgr=channels == 3 and (by_mmcv or bool(preprocessor.get("bgr_to_rgb"))),
            load=None if by_mmcv and not deep and channels == 3 else load,
        )

    def array(self, image: ImageLike) -> np.ndarray:
        """Returns what the loading step gives for an image: (H, W, C), or (H, W) for one channel.

        Raises:
            ValueError: wrong channels, shape, type, range or number of bits; or no image.
            TypeError: something else than a path, a Pillow image, an array or a tensor.
            OSError: a file that does not exist or is damaged.
        """
        if isinstance(image, (str, Path)):
            return self._from_file(Path(image))
        if isinstance(image, Image.Image):
            return self._from_pillow(image)
        if isinstance(image, torch.Tensor):
            image = self._channels_last(image)
        if not isinstance(image, np.ndarray):
            raise TypeError(
                f"an image is a path, a Pillow image, an array or a tensor, got {type(image).__name__}: "
                "several images are a list of these"
            )
        return self._ordered(self._as_trained(self._checked(image)))

    def rgb(self, array: np.ndarray) -> np.ndarray:
        """Returns an array of the loading step as (H, W, 3) RGB uint8, to look at; 16 bits are scaled to 8."""
        channels = array[..., None] if array.ndim == 2 else array
        shown = channels[..., :3] if channels.shape[2] >= 3 else channels[..., :1].repeat(3, 2)
        shown = shown[..., ::-1] if self.bgr else shown
        if shown.dtype != np.uint8:
            low, high = float(shown.min()), float(shown.max())
            shown = (shown.astype(np.float32) - low) * (255 / max(high - low, 1e-6))
        return np.ascontiguousarray(shown.astype(np.uint8))

    def _from_file(self, path: Path) -> np.ndarray:
        if not path.is_file():
            is_folder = ", which is a folder: its files are given as a list" if path.is_dir() else ""
            raise FileNotFoundError(f"no picture at {path}{is_folder}")
        if self.load is None:
            return self._ordered(read_picture(path))
        with suppress(*UNREADABLE):  # some loading steps read files that Pillow does not
            open_first_page(path).close()  # warns of pages that are left out
        try:
            loaded: Any = self.load(dict(img_path=str(path)))
            array = loaded["img"]
        except Exception as error:  # of any reader, for a damaged file
            why = " ".join(str(error).split())
            raise ValueError(f"the loading step of the model cannot read it: {why}") from error
        if self.only_deep and array.dtype == np.uint8:
            raise ValueError("the model was trained on 16 bits, and its pixels have 8")
        return self._checked(array)

    def _from_pillow(self, image: Image.Image) -> np.ndarray:
        if self.load is None:
            return self._ordered(eight_bit_rgb(image))
        upright = ImageOps.exif_transpose(image)
        if not self.deep and self.channels == 1:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"the image is of Pillow's mode {image.mode}, and the model was trained on 8 bits")
            upright = upright.convert("L")
        array = np.array(upright)
        if array.dtype == np.int32 and array.size and array.min() >= 0 and array.max() < 2**16:
            array = array.astype(np.uint16)  # how Pillow reads some files of 16 bits
        return self._ordered(self._as_trained(self._checked(array)))

    def _channels_last(self, tensor: torch.Tensor) -> np.ndarray:
        if tensor.ndim != 3 or tensor.shape[0] != self.channels:
            raise ValueError(
                f"a tensor of one image is ({self.channels}, H, W), got {tuple(tensor.shape)}: "
                "a batch is given as a list of images"
            )
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).permute(1, 2, 0).numpy()

    def _checked(self, array: np.ndarray) -> np.ndarray:
        """Returns the array with two axes for one channel, three otherwise; refuses other shapes."""
        if self.channels == 1 and array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        wanted = "(H, W)" if self.channels == 1 else f"(H, W, {self.channels})"
        fits = array.ndim == 2 if self.channels == 1 else array.ndim == 3 and array.shape[2] == self.channels
        if not fits:
            advice = "; a Pillow image can be changed by convert('RGB')" if array.ndim == 2 else ""
            raise ValueError(f"the model was trained on images {wanted}, got one of shape {array.shape}{advice}")
        if not array.size:
            raise ValueError(f"the image is empty: its shape is {array.shape}")
        return array

    def _as_trained(self, array: np.ndarray) -> np.ndarray:
        """Returns the values as files of the training have them; refuses types and ranges that they do not have."""
        if array.dtype == np.uint8 and not self.only_deep:
            return array
        if array.dtype == np.uint16 and self.deep:
            return array
        if self.deep:
            kinds = "uint16" if self.only_deep else "uint8 or uint16"
            raise ValueError(f"the model was trained on the values of its files ({kinds}), got {array.dtype}")
        if array.dtype.kind != "f":
            raise ValueError(f"the model was trained on 8 bits: expected uint8, or floats in 0..1, got {array.dtype}")
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):  # also for NaN
            raise ValueError(
                f"an image of floats has values in 0..1, got {low:g} to {high:g}: "
                "give the RGB picture itself, as uint8 or divided by 255"
            )
        return np.rint(array * 255).astype(np.uint8)

    def _ordered(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array[..., ::-1] if self.bgr else array)


def name_of(image: Any) -> str | None:
    """Returns the name of an image's file without ending; None for what comes from no file."""
    path = image if isinstance(image, (str, Path)) else getattr(image, "filename", None)
    return (Path(path).stem or None) if path else None


@contextmanager
def named_errors(image: Any, place: str = "") -> Iterator[None]:
    """Puts the path of an image, or its place in a list, into the error of reading it.

    Raises:
        TypeError, OSError, ValueError: those of `ImageFormat.array`, and ValueError for others of a damaged file.
    """
    try:
        yield
    except FileNotFoundError:  # names the path already
        raise
    except (TypeError, *UNREADABLE) as error:
        kind = next((kind for kind in (TypeError, OSError) if isinstance(error, kind)), ValueError)
        if isinstance(image, (str, Path)):
            raise kind(why_unread(Path(image), error)) from error
        raise kind(f"{place}: {error}" if place else str(error)) from error


def after_loading(pipeline: Sequence[Config], own_size: bool) -> Compose:
    """Returns the steps of a test pipeline for an array that is loaded already."""
    load = dict(type="LoadImageFromNDArray", to_float32=pipeline[0].get("to_float32", False))
    steps = [step for step in pipeline[1:] if not loads_labels(TRANSFORMS.get(step.type))]
    return Compose([load, *(step for step in steps if not (own_size and step.type == "Resize"))])
