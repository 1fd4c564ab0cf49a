"""Pretrains a backbone for pictures without labels: it predicts the pixels of masked patches (arXiv 2111.06377)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from vil_dense.layers.sequence import SEQUENCE_BLOCKS
from vil_dense.ops import ORDERS


def draw_mask(batch: int, grid: Sequence[int], ratio: tuple[float, float]) -> Tensor:
    """Draws which places of a grid are masked, (B, *grid) bool on the CPU.

    Each sample masks its own share of the places, uniform in `ratio`, and at least one place. The numbers come from
    torch's generator on the CPU, which `StepSeedHook` seeds from seed, step and rank: a resumed run draws the same
    masks, on every device.

    Raises:
        ValueError: the grid has a single place, so that nothing would stay visible.
    """
    places = math.prod(grid)
    if places < 2:
        raise ValueError(
            f"masking needs an input of two patches or more, got a grid of {tuple(grid)}: take larger crops"
        )
    low, high = ratio
    count = ((low + (high - low) * torch.rand(batch, 1)) * places).round().clamp(1, places - 1)
    rank = torch.rand(batch, places).argsort(1).argsort(1)
    return (rank < count).view(batch, *grid)


def check_ratio(ratio: Sequence[float]) -> tuple[float, float]:
    """Returns the lowest and the highest share of masked places; raises ValueError unless 0 < low <= high < 1."""
    if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] < 1:
        raise ValueError(f"mask_ratio has two shares, 0 < lowest <= highest < 1, got {ratio!r}")
    return float(ratio[0]), float(ratio[1])


def masked_square_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Returns the mean square error over the places of the mask alone.

    Args:
        prediction, target: (B, *grid, values).
        mask: (B, *grid) bool.
    """
    error = (prediction.float() - target.float()).square().mean(-1)
    return (error * mask).sum() / mask.sum()


class MaskedDecoder(nn.Module):
    """Predicts the pixels of each patch from a feature map, (B, C, H, W) -> (B, H, W, values), with ViL blocks.

    Args:
        in_channels: C.
        dim: width of the blocks, a multiple of 8.
        depth: number of blocks, which read rows and columns forwards and backwards in turn.
        values: pixels of a patch times channels.
    """

    def __init__(self, in_channels: int, dim: int, depth: int, values: int) -> None:
        super().__init__()
        orders = [order for order, reading in ORDERS.items() if -reading.fastest_axis <= 2]
        self.norm = nn.LayerNorm(in_channels)
        self.embed = nn.Linear(in_channels, dim)
        self.blocks = nn.Sequential(*(SEQUENCE_BLOCKS["vil"](dim, 2, orders[n % len(orders)]) for n in range(depth)))
        self.out_norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, values)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(self.norm(x.movedim(1, -1)))
        return self.head(self.out_norm(self.blocks(tokens)))


@MODELS.register_module()
class MaskedImageModel(BaseModel):
    """Masks patches of pictures (B, 3, H, W) and predicts their pixels; the backbone is what is kept.

    A learned patch of pixels takes the place of every masked one. For a ViL, whose embedding of a patch is linear, this
    is a learned mask token on the full grid; it needs nothing of the backbone, so that one with convolutions can be
    pretrained as well. No token is left out, since a convolution on the grid needs its neighbours. A patch is as large
    as the stride of the last feature map: 16 px for ViL, 32 px for HierViL.

    The loss is the mean square error of the masked patches, each shifted and scaled to mean 0 and variance 1.

    Args:
        backbone: config of a `ViL` or `HierViL`; `out_indices=(-1,)` trains all of it.
        mask_ratio: lowest and highest share of masked patches; each picture draws its own.
        decoder_depth: ViL blocks of the decoder.
        decoder_dim: their width; by default that of the last feature map, at most 512.
        data_preprocessor: config of a `PicturePreprocessor`.

    Raises:
        ValueError: the mask ratio cannot be, or the backbone's last map has no square stride.
    """

    def __init__(
        self,
        backbone: dict,
        *,
        mask_ratio: Sequence[float] = (0.3, 0.7),
        decoder_depth: int = 4,
        decoder_dim: int | None = None,
        data_preprocessor: Any = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.mask_ratio = check_ratio(mask_ratio)
        self.backbone = MODELS.build(backbone)
        channels, stride = self.backbone.out_channels[-1], self.backbone.strides[-1]
        if not isinstance(stride, int):
            raise ValueError(f"masked pretraining needs square patches, got {stride} px")
        self.patch = stride
        self.mask_patch = nn.Parameter(torch.zeros(3, stride, stride))
        self.decoder = MaskedDecoder(channels, decoder_dim or min(channels, 512), decoder_depth, 3 * stride**2)

    def forward(self, inputs: Tensor, mode: str = "tensor", **_: Any) -> Any:
        """Draws a mask and returns what `mode` names.

        `tensor`: the predicted patches (B, H / p, W / p, 3 p^2). `loss`: dict(loss=mean square error of the masked
        patches). `predict`: a list with dict(image, masked, reconstructed), each (3, H, W), for each picture.

        Raises:
            ValueError: height or width is no multiple of the patch.
        """
        mask = draw_mask(len(inputs), self._grid(inputs), self.mask_ratio).to(inputs.device)
        prediction = self.predict_patches(inputs, mask)
        if mode == "tensor":
            return prediction
        patches = self.to_patches(inputs)
        mean, deviation = patches.mean(-1, keepdim=True), (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        if mode == "loss":
            return dict(loss=masked_square_error(prediction, (patches - mean) / deviation, mask))
        # Only the patch itself knows its mean and contrast, which the loss does not ask for.
        restored = torch.where(mask[..., None], prediction * deviation + mean, patches)
        shown = dict(image=inputs, masked=self.hide(inputs, mask, 0.0), reconstructed=self.to_pictures(restored))
        return [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)]

    def predict_patches(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Predicts all patches of pictures from those that `mask` (B, H / p, W / p) leaves visible."""
        features = self.backbone(self.hide(inputs, mask, self.mask_patch))[-1]
        if features.shape[2:] != mask.shape[1:]:
            raise ValueError(
                f"the backbone gives a map of {tuple(features.shape[2:])} for {tuple(mask.shape[1:])} patches: masked "
                "pretraining needs patches without overlap"
            )
        return self.decoder(features)

    def pooled(self, inputs: Tensor) -> Tensor:
        """Returns the mean of the features that the decoder reads of whole pictures (B, 3, H, W), (B, C)."""
        features = self.backbone(inputs)[-1].movedim(1, -1)
        return self.decoder.norm(features).flatten(1, -2).mean(1)

    def hide(self, inputs: Tensor, mask: Tensor, patch: Tensor | float) -> Tensor:
        """Returns pictures with `patch`, (3, p, p) or a number, in the place of every masked patch."""
        height, width = mask.shape[1:]
        tiled = patch.repeat(1, height, width) if isinstance(patch, Tensor) else patch
        pixels = mask.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)[:, None]
        return torch.where(pixels, tiled, inputs)

    def to_patches(self, pictures: Tensor) -> Tensor:
        """Cuts pictures (B, 3, H, W) into patches (B, H / p, W / p, 3 p^2)."""
        cut = pictures.unflatten(3, (-1, self.patch)).unflatten(2, (-1, self.patch))
        return cut.permute(0, 2, 4, 1, 3, 5).flatten(3)

    def to_pictures(self, patches: Tensor) -> Tensor:
        """Puts patches together again; the inverse of `to_patches`."""
        cut = patches.unflatten(3, (3, self.patch, self.patch)).permute(0, 3, 1, 4, 2, 5)
        return cut.flatten(4).flatten(2, 3)

    def panels(self, batch: dict) -> list[list[np.ndarray]]:
        """Returns picture, masked picture and reconstruction, (H, W, 3) uint8 RGB, for each picture of a batch.

        Each masked patch is shown with the mean and contrast of the true one, which the loss leaves open.
        """
        rows = self.val_step(batch)
        return [[self._to_rgb(row[key]) for key in ("image", "masked", "reconstructed")] for row in rows]

    def _to_rgb(self, picture: Tensor) -> np.ndarray:
        preprocessor = self.data_preprocessor
        if getattr(preprocessor, "normalises", False):
            picture = picture * preprocessor.std + preprocessor.mean
        return picture.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()

    def _grid(self, inputs: Tensor) -> tuple[int, int]:
        height, width = inputs.shape[2:]
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"masked pretraining needs crops of whole patches of {self.patch} px, got {height} x {width} px"
            )
        return height // self.patch, width // self.patch
