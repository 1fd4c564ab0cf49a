"""What tests measure memory with."""

from vil_dense.backbones.memory import LiveMemory

__all__ = ["LiveMemory"]
