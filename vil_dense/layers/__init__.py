"""Provides modules on grids of tokens, (B, *grid, C) in and out."""

from vil_dense.layers.attention import AttentionBlock
from vil_dense.layers.embed import PatchEmbed, PosEmbed, resize_positions
from vil_dense.layers.fused import FusedViLBlock, FusedViLLayer
from vil_dense.layers.pool import POOLINGS
from vil_dense.layers.vil import ViLBlock, ViLLayer

__all__ = [
    "POOLINGS",
    "AttentionBlock",
    "FusedViLBlock",
    "FusedViLLayer",
    "PatchEmbed",
    "PosEmbed",
    "ViLBlock",
    "ViLLayer",
    "resize_positions",
]
