"""Estimates the memory of the inference on a picture before it runs."""

import copy
from typing import NamedTuple

import torch
from mmseg.models.segmentors import EncoderDecoder

from vil_dense.cost.memory import GIB, LiveMemory
from vil_dense.cost.step_cost import input_channels
from vil_dense.mm.inference.sliding_window import BAND_BYTES, cut, keeps_head_resolution
from vil_dense.mm.inference.tiled_upernet import Size, decode
from vil_dense.mm.models.backbone import ViL

BLOCK_MAPS = 12
"""Arrays of the size of a feature map that are live at one time in a ViL block, measured on the chunkwise backend."""
SCAN_MAPS = 33
"""Arrays of the size of a segment of 512 tokens that are live while the segment is processed."""
STREAM_BANDS = 3
"""Arrays of `BAND_BYTES` that are live while the classes of a band of rows are computed."""
OVERHEAD = 1.25
"""Ratio of resident to live bytes, for allocator and convolutions; measured on a CPU at 4096 x 4096 px: 1.27 whole,
1.56 in windows of 512."""


class Estimate(NamedTuple):
    """Stores bytes in float32: model, picture and waiting logits stay; of the other parts one is live at a time."""

    model: int  # weights
    picture: int  # as read, as the network sees it, and its label
    waiting: int  # logits of windows whose neighbours have not run yet
    backbone: int  # feature maps and activations of a block, for the windows that run at one time
    head: int  # feature maps, pyramid and head, with its logits
    rows: int  # these logits, and the bands of full resolution that become classes

    @property
    def working(self) -> int:
        """Returns the live bytes on top of model and picture."""
        return self.waiting + max(self.backbone, self.head, self.rows)

    @property
    def needed(self) -> float:
        """Returns the resident bytes on top of model and picture."""
        return OVERHEAD * self.working

    @property
    def total(self) -> float:
        """Returns the bytes of model, picture and inference."""
        return self.model + self.picture + self.needed

    def __str__(self) -> str:
        permanent, temporary = (
            ", ".join(f"{name} {getattr(self, field) / GIB:.2f}" for field, name in names.items())
            for names in (
                dict(model="model", picture="picture"),
                dict(backbone="backbone features", head="head", rows="streamed rows"),
            )
        )
        percent = round(100 * (OVERHEAD - 1))
        return (
            f"about {self.total / GIB:.1f} GiB ({permanent}; waiting windows {self.waiting / GIB:.2f} and "
            f"the largest of {temporary}, plus {percent} %)"
        )


def estimate(model: EncoderDecoder, inputs: Size, size: Size, batch: int = 1) -> Estimate | None:
    """Estimates the memory of `label_map`.

    Args:
        model: the segmentor.
        inputs: (H, W) of the network's input in px.
        size: (H, W) of the picture in px.
        batch: windows that run at one time.

    Returns:
        The estimate; None if the backbone is not a ViL, or if the head has a prediction method of its own.
    """
    if not isinstance(model.backbone, ViL) or not keeps_head_resolution(model):
        return None
    windows = cut(inputs, model.test_cfg)
    batch = min(batch, len(windows.lefts))
    grid = model.backbone.net.patch_embed.grid(windows.window)
    tokens, dim, feature_maps = grid[0] * grid[1], model.backbone.net.dim, len(model.backbone.out_indices)
    maps = (feature_maps + BLOCK_MAPS) * tokens + SCAN_MAPS * min(tokens, 512)
    head, logits = _head(model, (batch, dim, *grid), feature_maps)
    overlapping = sum(top < windows.window[0] for top in windows.tops)
    channels = input_channels(model.backbone)
    band = min(BAND_BYTES, 4 * model.out_channels * max(size[0] * size[1], inputs[0] * inputs[1]))
    return Estimate(
        model=sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers())),
        picture=(2 * channels + 1) * size[0] * size[1] + 4 * channels * inputs[0] * inputs[1],
        waiting=(overlapping * len(windows.lefts) - batch) * logits // batch,
        backbone=4 * batch * dim * maps,
        head=head,
        rows=logits + STREAM_BANDS * band,
    )


def _head(model: EncoderDecoder, feature_map: tuple[int, ...], feature_maps: int) -> tuple[int, int]:
    """Returns the peak of bytes of pyramid and head, and the bytes of their logits, counted on the meta device."""
    head = copy.deepcopy(model.decode_head).to("meta")
    neck = copy.deepcopy(model.neck).to("meta") if model.with_neck else None
    with torch.no_grad(), LiveMemory() as memory:
        logits = decode(head, neck, [torch.empty(feature_map, device="meta") for _ in range(feature_maps)])
    return memory.peak, logits.nbytes
