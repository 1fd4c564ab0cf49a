"""Decodes feature maps into queries and pixel embeddings, in plain torch (MaskFormer, Mask2Former).

The pixel decoder is a feature pyramid of plain convolutions (arXiv 2107.06278, section 3.4); the query decoder reads
its maps in turn by masked attention (arXiv 2112.01527, section 3.2).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn


class PixelDecoder(nn.Module):
    """Fuses feature maps from the coarsest to the finest, a list of (B, C_i, H_i, W_i) -> of (B, C, H_i, W_i).

    Args:
        in_channels: C_i of each map, the finest map first.
        channels: C.
        norm_cfg: norm of the convolutions, in mmcv's form.
        align_corners: how a coarser map is enlarged.
    """

    def __init__(
        self, in_channels: Sequence[int], channels: int, norm_cfg: dict[str, Any] | None, align_corners: bool
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.laterals = nn.ModuleList(
            ConvModule(width, channels, 1, norm_cfg=norm_cfg, act_cfg=None) for width in in_channels
        )
        self.outputs = nn.ModuleList(
            ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg) for _ in in_channels
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fused: list[Tensor] = []
        for x, lateral, output in zip(reversed(maps), reversed(self.laterals), reversed(self.outputs), strict=True):
            x = lateral(x)
            if fused:
                x = x + F.interpolate(fused[-1], x.shape[2:], mode="bilinear", align_corners=self.align_corners)
            fused.append(output(x))
        return fused[::-1]


class Attention(nn.Module):
    """Applies multi-head attention of queries to keys.

    Args:
        dim: C, a multiple of `num_heads`.
        num_heads: heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """Returns (B, Q, C) for queries (B, Q, C), keys and values (B, S, C).

        `bias` (B, Q, S) is added to the scores of all heads.
        """
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer, x in ((self.q, queries), (self.k, keys), (self.v, values))
        )
        mask = None if bias is None else bias[:, None].to(q.dtype)
        return self.proj(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


class QueryLayer(nn.Module):
    """Updates queries by masked attention to a map, self-attention and an MLP, each followed by a LayerNorm."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.cross, self.self_attention = Attention(dim, num_heads), Attention(dim, num_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.ReLU(), nn.Linear(4 * dim, dim))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, query_positions: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Returns new queries (B, Q, C).

        Args:
            x: queries (B, Q, C).
            query_positions: (Q, C), added where queries are compared.
            keys, values: the pixels of a map, (B, S, C), with and without their positions.
            bias: of the pixels for each query, (B, Q, S).
        """
        x = self.norms[0](x + self.cross(x + query_positions, keys, values, bias))
        placed = x + query_positions
        x = self.norms[1](x + self.self_attention(placed, placed, x))
        return self.norms[2](x + self.mlp(x))


class QueryDecoder(nn.Module):
    """Decodes maps into classes and masks of learned queries, once before and once after each layer.

    The layers attend to the maps in turn, the coarsest first, without the finest, whose pixels the masks are computed
    for. The attention of a query is restricted to its mask of the layer before. Where the paper hides all pixels whose
    probability in the mask is below 0.5, here the attention weights are multiplied by this probability. Without a
    threshold a rounding error cannot hide a pixel, so that exported models agree, and no query is left without pixels.

    Args:
        dim: C of the maps.
        num_classes: K.
        num_queries: Q.
        num_layers: layers.
        num_heads: heads of the attention.
        num_maps: maps that the layers attend to.
    """

    def __init__(
        self, dim: int, num_classes: int, num_queries: int, num_layers: int, num_heads: int, num_maps: int
    ) -> None:
        super().__init__()
        self.queries, self.query_positions = (nn.Parameter(torch.randn(num_queries, dim)) for _ in range(2))
        self.map_embeddings = nn.Parameter(torch.randn(num_maps, dim))
        self.layers = nn.ModuleList(QueryLayer(dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(dim)
        self.classify = nn.Linear(dim, num_classes + 1)
        self.embed_mask = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        for parameter in self.layers.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, pixels: Tensor, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Returns, from the initial queries to the last layer, logits of classes and of masks.

        Args:
            pixels: embeddings (B, C, H, W).
            maps: (B, C, H_i, W_i), in the order in which the layers attend to them.

        Returns:
            For each layer (B, Q, K + 1), whose last class is "no object", and (B, Q, H, W).
        """
        values = [x.flatten(2).mT + embedding for x, embedding in zip(maps, self.map_embeddings, strict=True)]
        keys = [x + sine_positions(level).flatten(1).mT for x, level in zip(values, maps, strict=True)]
        x = self.queries.expand(pixels.shape[0], -1, -1)  # `len` would fix the batch of an exported graph
        outputs = [self._predict(x, pixels)]
        for index, layer in enumerate(self.layers):
            level = index % len(maps)
            masks = F.interpolate(outputs[-1][1].detach(), maps[level].shape[2:], mode="bilinear")
            x = layer(x, self.query_positions, keys[level], values[level], F.logsigmoid(masks).flatten(2))
            outputs.append(self._predict(x, pixels))
        return outputs

    def _predict(self, x: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = self.norm(x)
        return self.classify(x), torch.einsum("bqc,bchw->bqhw", self.embed_mask(x), pixels)


def sine_positions(like: Tensor) -> Tensor:
    """Returns sines and cosines of the places of a map, (C, H, W), for a map `like` (B, C, H, W).

    Half of the channels stand for rows and half for columns; each axis spans 0 to 2 pi, whatever its length. As in DETR
    (arXiv 2005.12872), with wavelengths up to 10000 times as long.
    """
    channels, (height, width) = like.shape[1], like.shape[2:]
    rates = 2 * math.pi * 10000 ** -(torch.arange(channels // 4, device=like.device) / (channels // 4))
    parts = []
    for length, shape in ((height, (-1, 1)), (width, (1, -1))):
        places = (torch.arange(length, device=like.device) + 0.5) / length
        angles = (rates[:, None] * places).view(len(rates), *shape).expand(-1, height, width)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts).to(like.dtype)
