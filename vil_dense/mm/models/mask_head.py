"""Registers a head that predicts masks with classes: MaskFormer (arXiv 2107.06278), Mask2Former (arXiv 2112.01527)."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.losses import accuracy
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from vil_dense.mm.models.mask_losses import MaskClassificationLoss
from vil_dense.mm.models.query_decoder import PixelDecoder, QueryDecoder

SMALLEST_SCORE = 1e-6
"""Smallest score of a class of which the logarithm is taken."""


@MODELS.register_module()
class MaskClassificationHead(BaseDecodeHead):
    """Predicts a class and a mask for each of some learned queries, and classifies pixels by all of them.

    In plain torch, without mmdetection and without a compiled operator. The logits of pixels are the logarithms of
    sum_q p_q(c) m_q(pixel), with p the class probabilities of query q and m its mask: their softmax is proportional
    to the paper's scores.

    Args:
        in_channels: channels of each feature map, the finest map first.
        channels: C of the decoders; a multiple of 4 and of `num_heads`.
        num_classes: K.
        num_queries: at least as many as a picture has classes.
        num_layers: layers of the query decoder, each with a loss of its own, as have the initial queries.
        num_heads: heads of the attention.
        num_points: random points on which a mask is compared with the truth.
        no_object_weight: weight of "no object" in the cross entropy of the queries.
        norm_cfg: norm of the pixel decoder's convolutions.
        in_index: the feature maps.
        align_corners: how maps and logits are enlarged.
        ignore_index: label that does not count.
        init_cfg: initialisation, in MMEngine's form.

    Raises:
        ValueError: fewer than two maps, or numbers that cannot be.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        num_classes: int,
        num_queries: int = 100,
        num_layers: int = 9,
        num_heads: int = 8,
        num_points: int = 12544,
        no_object_weight: float = 0.1,
        norm_cfg: dict | None = None,
        in_index: Sequence[int] = (0, 1, 2, 3),
        align_corners: bool = False,
        ignore_index: int = 255,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            channels,
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=0.0,
            norm_cfg=norm_cfg,
            in_index=in_index,
            input_transform="multiple_select",
            ignore_index=ignore_index,
            align_corners=align_corners,
            loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),  # replaced below; the default one warns
            init_cfg=init_cfg,
        )
        _check_options(in_channels, channels, num_heads, (num_queries, num_layers, num_points))
        del self.conv_seg  # pixels are classified by the queries
        self.loss_decode = MaskClassificationLoss(num_classes, num_points, no_object_weight, ignore_index=ignore_index)
        self.pixel_decoder = PixelDecoder(in_channels, channels, norm_cfg, align_corners)
        self.embed_pixels = nn.Conv2d(channels, channels, 1)
        self.query_decoder = QueryDecoder(
            channels, num_classes, num_queries, num_layers, num_heads, num_maps=len(in_channels) - 1
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the logits of pixels (B, K, h, w), at the resolution of the finest map."""
        return pixel_logits(*self.decode(inputs)[-1])

    def decode(self, inputs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Returns the logits (B, Q, K + 1) of classes and (B, Q, h, w) of masks, from initial queries to last layer."""
        finest, *others = self.pixel_decoder(self._transform_inputs(inputs))
        return self.query_decoder(self.embed_pixels(finest), others[::-1])

    def loss(
        self, inputs: Sequence[Tensor], batch_data_samples: list[SegDataSample], train_cfg: Any
    ) -> dict[str, Tensor]:
        """Returns the losses of a batch, see `loss_by_feat`."""
        return self.loss_by_feat(self.decode(inputs), batch_data_samples)

    def loss_by_feat(
        self, outputs: list[tuple[Tensor, Tensor]], batch_data_samples: list[SegDataSample]
    ) -> dict[str, Tensor]:
        """Returns the losses of class, mask and Dice, and the accuracy of the last layer on the pixels, in percent."""
        labels = self._stack_batch_gt(batch_data_samples).squeeze(1)
        losses = self.loss_decode(outputs, labels)
        with torch.no_grad():
            logits = pixel_logits(*outputs[-1])
            logits = resize(logits, labels.shape[1:], mode="bilinear", align_corners=self.align_corners)
            losses["acc_seg"] = accuracy(logits, labels, ignore_index=self.ignore_index)
        return losses


def pixel_logits(classes: Tensor, masks: Tensor) -> Tensor:
    """Returns the logits of pixels (B, K, h, w) for logits (B, Q, K + 1) of classes and (B, Q, h, w) of masks."""
    scores = torch.einsum("bqk,bqhw->bkhw", classes.softmax(-1)[..., :-1], masks.sigmoid())
    return scores.clamp(min=SMALLEST_SCORE).log()


def _check_options(in_channels: Sequence[int], channels: int, num_heads: int, numbers: tuple[int, int, int]) -> None:
    if len(in_channels) < 2:
        raise ValueError(f"MaskClassificationHead takes two feature maps or more, got in_channels={in_channels}")
    if channels % 4 or channels % num_heads:
        raise ValueError(
            f"channels of MaskClassificationHead is a multiple of 4 and of num_heads={num_heads}, got {channels}"
        )
    if min(numbers) < 1:
        raise ValueError(
            "num_queries, num_layers and num_points of MaskClassificationHead are 1 or more, got {}, {} and {}".format(
                *numbers
            )
        )
