"""Provides modules on grids of tokens, (B, *grid, C) in and out."""

from vil_dense.layers.attention import AttentionBlock
from vil_dense.layers.convolutions import ConvBlock, GridConv
from vil_dense.layers.embed import PatchEmbed, PosEmbed, resize_positions
from vil_dense.layers.fused import FusedViLBlock, FusedViLLayer
from vil_dense.layers.pool import POOLINGS
from vil_dense.layers.sequence import SEQUENCE_BLOCKS, GatedConvBlock, drop_path_rates
from vil_dense.layers.vil import ViLBlock, ViLLayer

__all__ = [
    "POOLINGS",
    "SEQUENCE_BLOCKS",
    "AttentionBlock",
    "ConvBlock",
    "FusedViLBlock",
    "FusedViLLayer",
    "GatedConvBlock",
    "GridConv",
    "PatchEmbed",
    "PosEmbed",
    "ViLBlock",
    "ViLLayer",
    "drop_path_rates",
    "resize_positions",
]
