"""Normalises batches: of classifiers with mixup and cutmix (arXiv 2406.04303), and of pictures with any bands."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from mmseg.models import SegDataPreProcessor
from torch import Tensor
from torch.distributions import Beta


def mixup(pictures: Tensor, targets: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Mixes pictures (B, C, H, W) and targets (B, K) with the reversed batch: lam * own + (1 - lam) * other."""
    mixed = pictures.lerp(pictures.flip(0), 1 - lam)
    return mixed, _mix_targets(targets, lam)


def cutmix(pictures: Tensor, targets: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """Replaces the pixels in `box` (top, bottom, left, right) by those of the reversed batch; mixes targets by area."""
    top, bottom, left, right = box
    mixed = pictures.clone()
    mixed[..., top:bottom, left:right] = pictures.flip(0)[..., top:bottom, left:right]
    area = pictures.shape[-2] * pictures.shape[-1]
    return mixed, _mix_targets(targets, 1 - (bottom - top) * (right - left) / area)


def cutmix_box(lam: float, centre: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Returns top, bottom, left and right of the box around `centre` with sides sqrt(1 - lam) * `size`, clipped."""
    half = [int(0.5 * math.sqrt(1 - lam) * side) for side in size]
    (top, bottom), (left, right) = (
        (max(middle - reach, 0), min(middle + reach, side))
        for middle, reach, side in zip(centre, half, size, strict=True)
    )
    return top, bottom, left, right


def _mix_targets(targets: Tensor, lam: float) -> Tensor:
    return lam * targets + (1 - lam) * targets.flip(0)


@MODELS.register_module()
class PicturePreprocessor(BaseDataPreprocessor):
    """Moves batches to the device, normalises the pictures and mixes them in training.

    Input: dict(inputs=(B, 3, H, W) RGB, uint8 or float; labels=(B,) class indices or (B, K) probabilities). Output: the
    same with float pictures; mixed batches have labels (B, K) that sum to 1. Batches that are not mixed need no labels.

    Args:
        mean, std: of the three channels, on the scale of 0 to 255; None skips the normalisation.
        num_classes: K, needed for mixing.
        mixup, cutmix: the alpha of Beta(alpha, alpha), from which lambda is drawn; 0 for none. With both, each batch
            gets one of them with equal probability. A batch has one lambda and one box; every batch is mixed.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        *,
        num_classes: int | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        super().__init__(non_blocking=True)
        if (mixup or cutmix) and not num_classes:
            raise ValueError("mixing needs num_classes for its targets")
        self.alphas = {name: alpha for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha}
        self.num_classes = num_classes or 0
        self.normalises = mean is not None
        if mean is not None:
            self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        pictures = data["inputs"]
        if self.normalises:
            pictures = (pictures - self.mean) / self.std
        if training and self.alphas:
            pictures, labels = self._mix(pictures, data["labels"])
            return {**data, "inputs": pictures, "labels": labels}
        return {**data, "inputs": pictures}

    def _mix(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        targets = labels if labels.ndim == 2 else F.one_hot(labels, self.num_classes).to(pictures.dtype)
        names = list(self.alphas)
        name = names[int(torch.randint(len(names), ()))]
        lam = float(Beta(self.alphas[name], self.alphas[name]).sample())
        if name == "mixup":
            return mixup(pictures, targets, lam)
        height, width = pictures.shape[-2:]
        centre = int(torch.randint(height, ())), int(torch.randint(width, ()))
        return cutmix(pictures, targets, cutmix_box(lam, centre, (height, width)))


@MODELS.register_module()
class BandPreprocessor(SegDataPreProcessor):
    """Normalises each of any number of bands, and pads and stacks as `SegDataPreProcessor` does.

    MMEngine's preprocessors take one band or three.

    Args:
        mean, std: of each band, on the scale of the loading step.
        **options: see `SegDataPreProcessor`.

    Raises:
        ValueError: means and deviations are not of the same number of bands, or a deviation is not above 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **options: Any) -> None:
        super().__init__(**options)
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f"mean and std have a value for each band, std above 0; got {mean} and {std}")
        self._enable_normalize = True
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
