"""Provides the networks in plain torch, without any framework."""

from vil_dense.backbones.classifiers import build_classifier
from vil_dense.backbones.hierarchical import HIERARCHICAL_VARIANTS, HierViL, hierarchical_variant
from vil_dense.backbones.vision_lstm import BLOCKS, DIRECTIONS, VARIANTS, VisionLSTM, compile_blocks, variant

__all__ = [
    "BLOCKS",
    "DIRECTIONS",
    "HIERARCHICAL_VARIANTS",
    "VARIANTS",
    "HierViL",
    "VisionLSTM",
    "build_classifier",
    "compile_blocks",
    "hierarchical_variant",
    "variant",
]
