"""Defines the transformer block of the DeiT-III baseline (arXiv 2204.07118), with which ViL is compared."""

import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.layers.residual import LayerScale, Residual


class AttentionLayer(nn.Module):
    """Applies multi-head self-attention to all tokens of a grid, (B, *grid, C) in and out."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} cannot be split into {num_heads} heads")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.qkv(x.flatten(1, -2)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = tokens.permute(2, 0, 3, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v)
        return self.proj(h.transpose(1, 2).flatten(2)).view(x.shape)


class AttentionBlock(nn.Module):
    """Applies attention and MLP, each with its own norm and residual, (B, *grid, C) in and out."""

    def __init__(
        self,
        dim: int,
        *,
        num_heads: int,
        mlp_ratio: int = 4,
        drop_path: float = 0.0,
        drop_path_form: str = "bernoulli",
        layerscale: float | None = None,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.layer = AttentionLayer(dim, num_heads)
        self.norm_mlp = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))
        self.scale = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.scale_mlp = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.residual = Residual(drop_path, drop_path_form)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residual(x, lambda x: self.scale(self.layer(self.norm(x))))
        return self.residual(x, lambda x: self.scale_mlp(self.mlp(self.norm_mlp(x))))
