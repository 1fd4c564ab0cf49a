"""The counter of live tensors, under the name by which tests import it."""

from vil_dense.backbones.memory import LiveMemory

__all__ = ["LiveMemory"]
