"""Wraps a segmentor of mmseg as one network whose batch and sizes may vary, for programs without this package."""

import copy
from collections.abc import Callable

import torch
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor, nn

from vil_dense.mm.engine.hooks.deterministic import ProductPool2d


class WindowsToLogits(nn.Module):
    """Maps windows (B, C, H, W), float32 and normalised, to logits (B, K, H, W): backbone, neck, head and resize.

    The segmentor is copied, and what exporters cannot express for all sizes is replaced by an equal form.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).eval()
        for module in self.model.modules():
            if type(module) is nn.AdaptiveAvgPool2d:
                module.__class__ = ProductPool2d

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model.encode_decode(inputs, [dict(img_shape=inputs.shape[2:])])


class PicturesToClasses(nn.Module):
    """Maps pictures, uint8 RGB, to classes (B, H, W), counted from 0: scales them, runs the network, decides.

    The classes are uint8, and int32 where there are more than 256.

    Args:
        network: maps windows to logits.
        mean, std: of the channels as the network has them, on the scale of 0 to 255.
        channels_last: whether pictures are (B, H, W, C); else they are (B, C, H, W).
        bgr: whether the network has the channels as blue, green, red.
        threshold: of the probability, where the head has one logit.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        mean: Tensor,
        std: Tensor,
        *,
        channels_last: bool,
        bgr: bool,
        threshold: float | None,
    ) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.network, self.channels_last, self.bgr, self.threshold = network, channels_last, bgr, threshold
        self.register_buffer("mean", mean.float())
        self.register_buffer("std", std.float())

    def forward(self, inputs: Tensor) -> Tensor:
        pictures = inputs.permute(0, 3, 1, 2) if self.channels_last else inputs
        pictures = pictures.flip(1) if self.bgr else pictures
        logits = self.network((pictures.float() - self.mean) / self.std)
        if self.threshold is not None:
            return (logits[:, 0].sigmoid() > self.threshold).to(torch.uint8)
        return logits.argmax(1).to(torch.uint8 if logits.shape[1] <= 256 else torch.int32)
