"""Defines the ViL cell in plain form, and weights for it: the reference of the fused kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vil_dense.ops.cell_weights import CellWeights
from vil_dense.ops.recurrent import mlstm_recurrent

NUM_HEADS = 4


def cell(u: Tensor, z: Tensor, w: CellWeights, causal: bool, reverse: bool, eps: float = 1e-6) -> Tensor:
    """Computes the gated output of a cell, step by step: (B, *grid, E) -> (B, *grid, E)."""
    grid = u.shape[1:-1]
    c = F.silu(causal_conv(u, w, reverse) if causal else grid_conv(u, w))
    u, z = u.flatten(1, -2), z.flatten(1, -2)
    q, k, v = block_map(c, w.q, w.q_bias), block_map(c, w.k, w.k_bias), block_map(u, w.v, w.v_bias)
    qkv = torch.cat([q, k, v], -1)
    i, f = F.linear(qkv, w.igate, w.igate_bias).mT, F.linear(qkv, w.fgate, w.fgate_bias).mT
    q, k, v = (x.unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for x in (q, k, v))
    h = mlstm_recurrent(q, k, v, i, f, eps, reverse)
    h = F.layer_norm(h, h.shape[-1:], eps=1e-5).transpose(1, 2).flatten(2)
    h = h * w.norm + (0 if w.norm_bias is None else w.norm_bias) + w.skip * c
    return (h * F.silu(z)).unflatten(1, grid)


def grid_conv(u: Tensor, w: CellWeights) -> Tensor:
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[u.ndim - 2]
    padding = [size // 2 for size in w.conv.shape[2:]]
    out = conv(u.movedim(-1, 1), w.conv, w.conv_bias, padding=padding, groups=u.shape[-1])
    return out.movedim(1, -1).flatten(1, -2)


def causal_conv(u: Tensor, w: CellWeights, reverse: bool) -> Tensor:
    u = u.flatten(1, -2)
    u = u.flip(1) if reverse else u
    padded = F.pad(u.mT, (w.conv.shape[2] - 1, 0))
    out = F.conv1d(padded, w.conv, w.conv_bias, groups=u.shape[-1]).mT
    return out.flip(1) if reverse else out


def block_map(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    x, weight = x.unflatten(-1, (NUM_HEADS, 4, -1)), weight.unflatten(-1, (NUM_HEADS, -1))
    y = torch.einsum("bshin,iohn->bshon", x, weight).flatten(2)
    return y if bias is None else y + bias


def random_weights(E: int, kernel: tuple[int, ...], bias: bool = True, gate_scale: float = 1.0) -> CellWeights:
    """Draws weights with which every term has a part; gates within about +-3 times `gate_scale`."""

    def noise(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape) * scale

    gate = gate_scale * 0.8 / E**0.5
    maps = [x for _ in range(3) for x in (noise(4, 4, E // 4, scale=0.5), noise(E, scale=0.3) if bias else None)]
    return CellWeights(
        noise(E, 1, *kernel, scale=0.4), noise(E, scale=0.2) if bias else None, *maps,
        noise(NUM_HEADS, 3 * E, scale=gate), noise(NUM_HEADS, scale=gate_scale),
        noise(NUM_HEADS, 3 * E, scale=gate), torch.linspace(3, 6, NUM_HEADS),
        1 + noise(E, scale=0.3), noise(E, scale=0.3) if bias else None, 1 + noise(E, scale=0.3),
    )  # fmt: skip
