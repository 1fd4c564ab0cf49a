"""Builds the sequence blocks of a scale of a volume network, or the controls that replace them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vil_dense.backbones.checkpoint import inflate_blocks
from vil_dense.layers import SEQUENCE_BLOCKS, ViLBlock
from vil_dense.ops import ORDERS

AXIS_ORDERS = tuple(ORDERS)
"""The six orders of a volume, which consecutive blocks use in turn: along each axis, forwards and backwards."""


class SequenceStage(nn.Module):
    """Runs consecutive sequence blocks on one scale, (B, C, *grid) in and out.

    Args:
        dim: C, a multiple of 8.
        rates: stochastic depth rate of each block.
        block: a key of `layers.sequence.SEQUENCE_BLOCKS`.
        orders: keys of `ops.ORDERS`, which the blocks use in turn.
        first: index of the first block in the whole network, which determines its order.
        use_checkpoint: recomputes each block in the backward pass.
        **options: options of `layers.ViLBlock`, `layers.ViLLayer`, `layers.AttentionBlock` or
            `layers.GatedConvBlock`.

    Raises:
        ValueError: the width is not a multiple of 8.
    """

    def __init__(
        self,
        dim: int,
        rates: Sequence[float],
        *,
        block: str = "vil",
        orders: Sequence[str] = AXIS_ORDERS,
        first: int = 0,
        use_checkpoint: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self.use_checkpoint = use_checkpoint
        if dim % 8:
            raise ValueError(f"sequence blocks need a width that is a multiple of 8, got {dim}")
        self.blocks = nn.ModuleList(
            SEQUENCE_BLOCKS[block](dim, 3, orders[(first + index) % len(orders)], drop_path=rate, **options)
            for index, rate in enumerate(rates)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.intermediate(x, [len(self.blocks) - 1])[0].movedim(-1, 1).contiguous()

    def intermediate(self, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Returns the outputs of the blocks `indices`, each (B, *grid, C)."""
        tokens, found = x.movedim(1, -1).contiguous(), {}
        for index, block in enumerate(self.blocks):
            tokens = run(self.use_checkpoint, block, tokens)
            found[index] = tokens
        return [found[index] for index in indices]


def load_picture_blocks(net: nn.Module, state: Mapping[str, Tensor]) -> str:
    """Copies the blocks of a ViL for pictures into the ViL blocks of a volume network, in order; returns a report.

    Only blocks of the same width are filled; the values of LayerScale are not changed.

    Args:
        state: weights in our layout (`backbones.checkpoint.to_own`).

    Raises:
        ValueError: no block has that width, or the blocks differ in convolution or biases.
    """
    blocks = inflate_blocks(state)
    if "blocks.0.norm.weight" not in blocks:
        raise ValueError("the picture's weights hold no ViL block")
    dim = len(blocks["blocks.0.norm.weight"])
    count = 1 + max(int(key.split(".")[1]) for key in blocks)
    targets = [module for module in net.modules() if isinstance(module, ViLBlock)]
    targets = [module for module in targets if len(module.norm.weight) == dim][:count]
    if not targets:
        raise ValueError(f"the picture's ViL is {dim} wide, and the network has no ViL blocks of that width")
    for number, target in enumerate(targets):
        prefix = f"blocks.{number}."
        own = {key.removeprefix(prefix): value for key, value in blocks.items() if key.startswith(prefix)}
        wanted = {key: value for key, value in target.state_dict().items() if not key.startswith("layerscale.")}
        wrong = [
            key for key in {*own, *wanted} if key not in own or key not in wanted or own[key].shape != wanted[key].shape
        ]
        if wrong:
            raise ValueError(f"the picture's blocks are of another kind than the network's: {sorted(wrong)[0]}")
        target.load_state_dict(own, strict=False)
    return f"{len(targets)} of {count} blocks of the picture's ViL, {dim} wide"


def sequence_share(net: nn.Module) -> dict[str, int | float]:
    """Counts the parameters of a network: `total`, in sequence blocks (`sequence`), and their fraction (`share`)."""
    total = sum(parameter.numel() for parameter in net.parameters())
    stages = [module for module in net.modules() if isinstance(module, SequenceStage)]
    sequence = sum(parameter.numel() for stage in stages for parameter in stage.parameters())
    return dict(total=total, sequence=sequence, share=sequence / total)


def run(use_checkpoint: bool, module: nn.Module, *args: Tensor) -> Tensor:
    """Calls a module; with `use_checkpoint` its activations are not stored for the backward pass but recomputed."""
    if use_checkpoint and torch.is_grad_enabled():
        return checkpoint(module, *args, use_reentrant=False)
    return module(*args)
