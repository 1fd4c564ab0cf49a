"""Runs UPerNet's head in bands of rows: the same logits, without complete maps of the finest level.

For 4096 x 4096 px and 192 channels a map of stride 4 takes 0.75 GiB. mmseg's head stores about eight of them; here only
the logits are complete. Coarser levels are computed at once, the finest one in bands, each with the neighbouring rows
that the two 3 x 3 convolutions need. Norms must act on each pixel alone: BatchNorm does in inference, GroupNorm never.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmseg.models.decode_heads import UPerHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.necks import Feature2Pyramid
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

BAND_BYTES = 2**27
"""Size of the concatenated maps of all levels in a band; three times as much is live at one time."""

Size = tuple[int, int]


class Resize(NamedTuple):
    """Resizes bilinearly from `before` to `after`, (H, W) each, as `F.interpolate` does, but only some rows."""

    before: Size
    after: Size
    align_corners: bool

    def source(self, start: int, stop: int) -> tuple[int, int]:
        """Returns the range of input rows that the rows `start` to `stop` of the result depend on."""
        if self.before[0] == self.after[0]:
            return start, stop
        scale = self.before[0] / self.after[0]
        margin = math.ceil(scale) + 1
        return max(math.floor(start * scale) - margin, 0), min(math.ceil(stop * scale) + margin, self.before[0])

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Computes rows of the result, (..., stop - start, W), from the input rows of `source`, (..., rows, w)."""
        if self.before[1] != self.after[1]:
            x = self._interpolate(x, (x.shape[-2], self.after[1]))
        if self.before[0] == self.after[0]:
            return x
        # A row of the result is a weighted sum of two input rows; a resized unit matrix holds torch's exact weights.
        first, end = self.source(start, stop)
        unit = x.new_zeros(self.before[0], end - first)
        unit[first:end].fill_diagonal_(1)
        weights = self._interpolate(unit[None], (self.after[0], end - first))[0, start:stop]
        return weights @ x

    def _interpolate(self, x: Tensor, size: Size) -> Tensor:
        maps = x.reshape(-1, 1, *x.shape[-2:]) if x.ndim != 4 else x
        maps = F.interpolate(maps, size, mode="bilinear", align_corners=self.align_corners)
        return maps.view(*x.shape[:-2], *size)


def decode(head: BaseDecodeHead, neck: BaseModule | None, feature_maps: Sequence[Tensor]) -> Tensor:
    """Returns the logits of `head(neck(feature_maps))`, (B, K, h, w); in bands of rows where that saves memory."""
    rows = band_rows(head, neck, feature_maps)
    if rows is None:
        return head(neck(feature_maps) if neck is not None else feature_maps)
    return _in_bands(head, _Pyramid(neck, feature_maps), rows)


def band_rows(head: BaseDecodeHead, neck: BaseModule | None, feature_maps: Sequence[Tensor]) -> int | None:
    """Returns the rows of the finest level in a band; None if `head` runs on complete maps."""
    parts = [head] if neck is None else [head, neck]
    if (
        type(head) is not UPerHead
        or (neck is not None and type(neck) is not Feature2Pyramid)
        or not all(_is_local(module) for part in parts for module in part.modules())
        or list(head.in_index) != list(range(len(feature_maps)))
    ):
        return None
    factor = 1 if neck is None else int(neck.rescales[0])
    height, width = (factor * length for length in feature_maps[0].shape[2:])
    row_bytes = len(feature_maps[0]) * len(feature_maps) * head.channels * width * feature_maps[0].element_size()
    rows = max(BAND_BYTES // row_bytes, 1)
    return rows if rows < height else None


class _Pyramid:
    """Computes the levels of `neck`, complete or some rows; the levels do not depend on each other."""

    def __init__(self, neck: Feature2Pyramid | None, feature_maps: Sequence[Tensor]) -> None:
        self.neck, self.feature_maps = neck, list(feature_maps)
        self.factor = 1 if neck is None else int(neck.rescales[0])
        height, width = feature_maps[0].shape[2:]
        self.size = self.factor * height, self.factor * width

    def coarse(self) -> list[Tensor]:
        """Returns all levels but the finest."""
        if self.neck is None:
            return self.feature_maps[1:]
        return list(self.neck([self.feature_maps[0][:, :, :1], *self.feature_maps[1:]])[1:])

    def finest(self, start: int, stop: int) -> Tensor:
        """Returns the rows `start` to `stop` of the finest level."""
        if self.neck is None:
            return self.feature_maps[0][:, :, start:stop]
        first, end = start // self.factor, -(-stop // self.factor)
        few = [feature_map[:, :, :4, :4] for feature_map in self.feature_maps[1:]]
        level = self.neck([self.feature_maps[0][:, :, first:end], *few])[0]
        return level[:, :, start - first * self.factor : stop - first * self.factor]


def _in_bands(head: UPerHead, pyramid: _Pyramid, rows: int) -> Tensor:
    """Runs `UPerHead.forward` on `rows` of the finest level at a time."""
    (height, width), align = pyramid.size, head.align_corners
    levels, coarse = _coarse_levels(head, pyramid.coarse())
    to_finest = [Resize((x.shape[2], x.shape[3]), pyramid.size, align) for x in levels]

    def enlarged(x: Tensor, resize: Resize, start: int, stop: int) -> Tensor:
        first, end = resize.source(start, stop)
        return resize.rows(x[:, :, first:end], start, stop)

    logits = torch.empty(0)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        above, below = max(start - 1, 0), min(stop + 1, height)
        first, end = max(start - 2, 0), min(stop + 2, height)
        x = head.lateral_convs[0](pyramid.finest(first, end))
        x += enlarged(coarse, to_finest[0], first, end)
        x = head.fpn_convs[0](x)[:, :, above - first : below - first]
        x = torch.cat([x, *(enlarged(*level, above, below) for level in zip(levels, to_finest, strict=True))], 1)
        x = head.cls_seg(head.fpn_bottleneck(x)[:, :, start - above : stop - above])
        if start == 0:
            logits = x.new_empty(*x.shape[:2], height, width)
        logits[:, :, start:stop] = x
    return logits


def _coarse_levels(head: UPerHead, maps: list[Tensor]) -> tuple[list[Tensor], Tensor]:
    """Returns the outputs of all levels but the finest, and the lateral map that is added to the finest."""
    laterals = [conv(x) for conv, x in zip(head.lateral_convs[1:], maps[:-1], strict=True)]
    laterals.append(head.psp_forward(maps))
    for index in range(len(laterals) - 1, 0, -1):
        size = laterals[index - 1].shape[2:]
        laterals[index - 1] += F.interpolate(laterals[index], size, mode="bilinear", align_corners=head.align_corners)
    outputs = [conv(x) for conv, x in zip(head.fpn_convs[1:], laterals[:-1], strict=True)]
    return [*outputs, laterals[-1]], laterals[0]


def _is_local(module: nn.Module) -> bool:
    """Returns whether the output of a module at a pixel depends only on its neighbourhood."""
    if type(module) in (nn.Conv2d, nn.ConvTranspose2d) or isinstance(module, _BatchNorm):
        return not module.training
    return not isinstance(module, _InstanceNorm) and not [*module.parameters(recurse=False)]
