"""Builds the sequence blocks of a scale of a volume network, and the control blocks that replace them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vil_dense.backbones.checkpoint import inflate_blocks
from vil_dense.layers import AttentionBlock, FusedViLBlock, ViLBlock
from vil_dense.layers.residual import LayerScale, Residual
from vil_dense.ops import ORDERS

AXIS_ORDERS = tuple(ORDERS)
"""The six orders of a volume, which consecutive blocks use in turn: along each axis, forwards and backwards."""


class GatedConvBlock(nn.Module):
    """Computes a ViL block without its mLSTM, x + down(conv(u) * SiLU(z)), with u and z from the norm of x.

    Input and output are (B, *grid, C).

    It is a control of the size of ViL: norm, up-projection, depthwise 3 x 3 x 3 convolution, gate and down-projection
    are those of ViL, but a token depends only on its neighbours.
    """

    def __init__(self, dim: int, *, drop_path: float = 0.0, layerscale: float | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.proj_up = nn.Linear(dim, 4 * dim)
        self.conv = nn.Conv3d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.proj_down = nn.Linear(2 * dim, dim)
        self.layerscale = nn.Identity() if layerscale is None else LayerScale(dim, layerscale)
        self.residual = Residual(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, self._branch)

    def _branch(self, x: Tensor) -> Tensor:
        u, z = self.proj_up(self.norm(x)).chunk(2, dim=-1)
        u = F.silu(self.conv(u.movedim(-1, 1)).movedim(1, -1))
        return self.layerscale(self.proj_down(u * F.silu(z)))


def _vil(dim: int, order: str, **options: Any) -> nn.Module:
    return FusedViLBlock(dim, ndim=3, orders=(order,), **options)


def _identity(dim: int, order: str, **options: Any) -> nn.Module:
    return nn.Identity()


def _dwconv(dim: int, order: str, **options: Any) -> nn.Module:
    return GatedConvBlock(dim, **options)


def _attention(dim: int, order: str, **options: Any) -> nn.Module:
    # With this MLP the block has 6 C^2 parameters and 4 heads, as ViL has.
    return AttentionBlock(dim, **{"num_heads": 4, "mlp_ratio": 1, **options})


SEQUENCE_BLOCKS: dict[str, Callable[..., nn.Module]] = {
    "vil": _vil,
    "identity": _identity,
    "dwconv": _dwconv,
    "attention": _attention,
}
"""Constructors (dim, order, **options) of blocks by name; `identity` stands for no block."""


class SequenceStage(nn.Module):
    """Runs consecutive sequence blocks on one scale, (B, C, *grid) in and out.

    Args:
        dim: C, a multiple of 8.
        rates: stochastic depth rate of each block.
        block: a key of `SEQUENCE_BLOCKS`.
        orders: keys of `ops.ORDERS`, which the blocks use in turn.
        first: index of the first block in the whole network, which determines its order.
        **options: options of `layers.ViLBlock`, `layers.ViLLayer`, `layers.AttentionBlock` or `GatedConvBlock`.

    Raises:
        ValueError: the block is unknown, or the width is not a multiple of 8.
    """

    def __init__(
        self,
        dim: int,
        rates: Sequence[float],
        *,
        block: str = "vil",
        orders: Sequence[str] = AXIS_ORDERS,
        first: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        if block not in SEQUENCE_BLOCKS:
            raise ValueError(f"unknown block {block!r}; known: {', '.join(SEQUENCE_BLOCKS)}")
        if dim % 8:
            raise ValueError(f"sequence blocks need a width that is a multiple of 8, got {dim}")
        self.blocks = nn.ModuleList(
            SEQUENCE_BLOCKS[block](dim, orders[(first + index) % len(orders)], drop_path=rate, **options)
            for index, rate in enumerate(rates)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.intermediate(x, [len(self.blocks) - 1])[0].movedim(-1, 1).contiguous()

    def intermediate(self, x: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Returns the outputs of the blocks `indices`, each (B, *grid, C)."""
        tokens, found = x.movedim(1, -1).contiguous(), {}
        for index, block in enumerate(self.blocks):
            tokens = block(tokens)
            found[index] = tokens
        return [found[index] for index in indices]


def drop_path_rates(drop_path: float, depth: int) -> list[float]:
    """Returns rates of stochastic depth that rise from 0 at the first block to `drop_path` at the last one."""
    return [drop_path * index / max(depth - 1, 1) for index in range(depth)]


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
