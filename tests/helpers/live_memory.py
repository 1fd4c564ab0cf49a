"""The counter with which tests measure memory."""

from vil_dense.backbones.memory import LiveMemory

__all__ = ["LiveMemory"]
