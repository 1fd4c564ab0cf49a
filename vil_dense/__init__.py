"""Provides Vision-LSTM backbones for dense prediction, in 2D and 3D."""

__version__ = "0.1.0"
