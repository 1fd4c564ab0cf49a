"""Defines what both networks share: checks, and blocks that are computed again in the backward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vil_dense.layers.vil import ViLLayer


class Network(nn.Module):
    """Holds blocks for pictures or volumes.

    Attributes:
        ndim: number of spatial axes, 2 or 3.
        recompute: option of the ViL layers, see `layers.ViLLayer`.
        with_cp: whether each block is computed again in the backward pass; its layers then do not recompute.
    """

    ndim: int
    recompute: bool

    @property
    def with_cp(self) -> bool:
        return self._with_cp

    @with_cp.setter
    def with_cp(self, value: bool) -> None:
        self._with_cp = value
        for module in self.modules():
            if isinstance(module, ViLLayer):
                module.recompute = self.recompute and not value

    def run_block(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """Returns the output of a block, which saves its activations unless `with_cp` is set."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)

    def check_input(self, x: Tensor, channels: int) -> None:
        """Raises ValueError if x is not (B, channels, *size) with `ndim` axes, none of them empty."""
        if x.ndim != self.ndim + 2 or x.shape[1] != channels or min(x.shape[1:]) < 1:
            axes = "B, C, H, W" if self.ndim == 2 else "B, C, D, H, W"
            raise ValueError(f"expected an input ({axes}) with C = {channels} and no empty axis, got {tuple(x.shape)}")

    def __prepare_scriptable__(self) -> None:
        """Refuses torch.jit.script, which calls this."""
        raise RuntimeError(
            f"torch.jit.script cannot take a {type(self).__name__}: use torch.jit.trace(model, example), or "
            "torch.export.export"
        )


def counted_from_start(indices: Sequence[int], parts: nn.ModuleList, part: str) -> tuple[int, ...]:
    """Returns the numbers of parts of a network, of which negative ones count from the end, counted from 0.

    Raises:
        ValueError: no part is named, or one that does not exist; `part` is what the message calls it.
    """
    if not isinstance(indices, Sequence) or not indices:
        raise ValueError(f"out_indices is a sequence of numbers of {part}s, such as (0, 1), got {indices!r}")
    for index in indices:
        if not -len(parts) <= index < len(parts):
            raise ValueError(f"there is no {part} {index}: the network has {len(parts)} {part}s, counted from 0")
    return tuple(index % len(parts) for index in indices)
