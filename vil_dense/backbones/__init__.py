"""Provides the networks in plain torch, without any framework."""

from vil_dense.backbones.vision_lstm import BLOCKS, DIRECTIONS, VARIANTS, VisionLSTM, compile_blocks, variant

__all__ = ["BLOCKS", "DIRECTIONS", "VARIANTS", "VisionLSTM", "compile_blocks", "variant"]
