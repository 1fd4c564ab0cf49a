"""Transforms PIL images for ImageNet as the code of the ViL paper does (arXiv 2406.04303, table 5).

Inside a pipeline `results["img"]` is an RGB `PIL.Image`; `PackPicture` turns it into a tensor. Randomness comes from
numpy's global generator, which `SeedSample` seeds.
"""

import math

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from vil_dense.mm.datasets.pictures import open_picture

BICUBIC = Image.Resampling.BICUBIC


@TRANSFORMS.register_module()
class LoadPicture(BaseTransform):
    """Reads `img_path` to `img`, RGB; the EXIF orientation is not applied.

    Pillow decodes: OpenCV gives the same pixels and is no faster once they are in RGB order. Decoding to a fraction of
    the size (`Image.draft`) changes pixels and saves nothing at ImageNet's usual 500 x 375 px.

    Raises:
        ValueError: the picture does not exist or is broken; names the file.
    """

    def transform(self, results: dict) -> dict:
        with open_picture(results["img_path"]) as image:
            results["img"] = image.convert("RGB")
        return results


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Crops a random part of the picture and scales it to `size` x `size` px (bicubic, antialiased).

    The area of the part is uniform in `scale` times that of the picture; the logarithm of its aspect ratio (width /
    height) is uniform between those of `ratio`. If none of ten draws fits, the largest centred part within `ratio` is
    taken.
    """

    def __init__(
        self, size: int, scale: tuple[float, float] = (0.08, 1.0), ratio: tuple[float, float] = (3 / 4, 4 / 3)
    ) -> None:
        self.size, self.scale, self.ratio = size, scale, ratio

    def transform(self, results: dict) -> dict:
        left, top, width, height = self.draw(*results["img"].size)
        box = (left, top, left + width, top + height)
        # cropped first: with resize(box=...) pixels outside the part would enter the average
        results["img"] = results["img"].crop(box).resize((self.size, self.size), BICUBIC)
        return results

    def draw(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Draws left, top, width and height of a part of a picture of `width` x `height` px."""
        for _ in range(10):
            area = width * height * np.random.uniform(*self.scale)
            aspect = math.exp(np.random.uniform(*np.log(self.ratio)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return np.random.randint(width - w + 1), np.random.randint(height - h + 1), w, h
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
        return (width - w) // 2, (height - h) // 2, w, h


@TRANSFORMS.register_module()
class FlipPicture(BaseTransform):
    """Mirrors the picture left to right with probability `prob`."""

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: dict) -> dict:
        if np.random.random() < self.prob:
            results["img"] = results["img"].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return results


def grey(image: Image.Image) -> Image.Image:
    """Replaces all three channels by the luminance."""
    return image.convert("L").convert("RGB")


def solarise(image: Image.Image) -> Image.Image:
    """Inverts values of 128 and more."""
    return ImageOps.solarize(image)


def blur(image: Image.Image) -> Image.Image:
    """Blurs with a Gaussian whose radius is drawn from 0.1 to 2.0 px."""
    return image.filter(ImageFilter.GaussianBlur(np.random.uniform(0.1, 2.0)))


THREE = (grey, solarise, blur)


@TRANSFORMS.register_module()
class ThreeAugment(BaseTransform):
    """Applies one of `THREE` with equal probability (DeiT III, arXiv 2204.07118, section 3.2)."""

    def transform(self, results: dict) -> dict:
        results["img"] = THREE[np.random.randint(len(THREE))](results["img"])
        return results


ENHANCE = dict(brightness=ImageEnhance.Brightness, contrast=ImageEnhance.Contrast, saturation=ImageEnhance.Color)


@TRANSFORMS.register_module()
class PictureJitter(BaseTransform):
    """Changes brightness, contrast and saturation, each every time, in random order.

    Args:
        brightness, contrast, saturation: the factor is uniform in [1 - x, 1 + x]; 0 leaves the step out.
    """

    def __init__(self, brightness: float = 0.3, contrast: float = 0.3, saturation: float = 0.3) -> None:
        strengths = dict(brightness=brightness, contrast=contrast, saturation=saturation)
        self.spread = {name: spread for name, spread in strengths.items() if spread}

    def transform(self, results: dict) -> dict:
        for name in np.random.permutation(list(self.spread)):
            factor = np.random.uniform(max(0.0, 1 - self.spread[name]), 1 + self.spread[name])
            results["img"] = ENHANCE[name](results["img"]).enhance(factor)
        return results


@TRANSFORMS.register_module()
class ResizeCentreCrop(BaseTransform):
    """Scales the short side to `size` px (bicubic, antialiased) and crops the middle `size` x `size` px."""

    def __init__(self, size: int) -> None:
        self.size = size

    def transform(self, results: dict) -> dict:
        image, size = results["img"], self.size
        short = min(image.size)
        # whole px as torchvision counts them: the long side is rounded down
        width, height = (size if side == short else int(size * side / short) for side in image.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        results["img"] = image.resize((width, height), BICUBIC).crop((left, top, left + size, top + size))
        return results


@TRANSFORMS.register_module()
class PackPicture(BaseTransform):
    """Packs a sample for a batch: dict(inputs=uint8 RGB (3, H, W), img_path) and, if it has one, labels=class index."""

    def transform(self, results: dict) -> dict:
        pixels = torch.from_numpy(np.array(results["img"]))
        inputs = pixels.permute(2, 0, 1).contiguous()
        labels = dict(labels=results["label"]) if "label" in results else {}
        return dict(inputs=inputs, **labels, img_path=results["img_path"])
