"""Mixup and cutmix of whole batches, and the preprocessor that normalises and mixes them (arXiv 2406.04303)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor
from torch.distributions import Beta


def mixup(pictures: Tensor, targets: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Each picture (B, C, H, W) with the share `share` of itself and the rest of its partner, and targets (B, K) alike.

    The partner is the batch in reversed order.
    """
    mixed = pictures.lerp(pictures.flip(0), 1 - share)
    return mixed, _mix_targets(targets, share)


def cutmix(pictures: Tensor, targets: Tensor, box: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """The partner's pixels inside `box` (top, bottom, left, right); targets mixed by the area that is left."""
    top, bottom, left, right = box
    mixed = pictures.clone()
    mixed[..., top:bottom, left:right] = pictures.flip(0)[..., top:bottom, left:right]
    area = pictures.shape[-2] * pictures.shape[-1]
    return mixed, _mix_targets(targets, 1 - (bottom - top) * (right - left) / area)


def cutmix_box(share: float, centre: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the box around `centre` whose sides are sqrt(1 - share) of `size`, clipped to it."""
    half = [int(0.5 * math.sqrt(1 - share) * side) for side in size]
    edges = []
    for middle, reach, side in zip(centre, half, size, strict=True):
        edges += [max(middle - reach, 0), min(middle + reach, side)]
    return tuple(edges)


def _mix_targets(targets: Tensor, share: float) -> Tensor:
    return share * targets + (1 - share) * targets.flip(0)


@MODELS.register_module()
class PicturePreprocessor(BaseDataPreprocessor):
    """Batches on the device: pictures normalised, in training mixed.

    In: dict(inputs=(B, 3, H, W) RGB, uint8 or float; labels=(B,) class indices or (B, K) shares). Out: the same with
    float pictures; mixed batches have labels (B, K) of shares that sum to 1.

    Args:
        mean, std: of the three channels, on the scale of 0 to 255; None leaves the pictures as they are.
        num_classes: K, needed for mixing.
        mixup, cutmix: the alpha of Beta(alpha, alpha), from which the share of a batch is drawn; 0 for none. With both,
            each batch gets one of them, at even odds. One share and one box for a batch; every batch is mixed.
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
        self.num_classes = num_classes
        self.normalises = mean is not None
        if mean is not None:
            self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
            self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, data: dict, training: bool = False) -> dict:
        data = self.cast_data(data)
        pictures, labels = data["inputs"], data["labels"]
        if self.normalises:
            pictures = (pictures - self.mean) / self.std
        if training and self.alphas:
            pictures, labels = self._mix(pictures, labels)
        return {**data, "inputs": pictures, "labels": labels}

    def _mix(self, pictures: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        targets = labels if labels.ndim == 2 else F.one_hot(labels, self.num_classes).to(pictures.dtype)
        names = list(self.alphas)
        name = names[int(torch.randint(len(names), ()))]
        share = float(Beta(self.alphas[name], self.alphas[name]).sample())
        if name == "mixup":
            return mixup(pictures, targets, share)
        height, width = pictures.shape[-2:]
        centre = int(torch.randint(height, ())), int(torch.randint(width, ()))
        return cutmix(pictures, targets, cutmix_box(share, centre, (height, width)))
