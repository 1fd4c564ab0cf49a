"""Defines Vision-LSTM (arXiv 2406.04303) for pictures and volumes of any size, and the table of its variants."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from vil_dense.backbones.network import Network, counted_from_start
from vil_dense.errors import refuse_other, refuse_unknown
from vil_dense.layers.attention import AttentionBlock
from vil_dense.layers.embed import PatchEmbed, PosEmbed, per_axis
from vil_dense.layers.fused import FusedViLBlock, FusedViLLayer
from vil_dense.layers.pool import CLS_POOLINGS, POOLINGS, insert_cls, remove_cls
from vil_dense.layers.sequence import drop_path_rates, sequence_options
from vil_dense.ops.compiled import compiler_problem

_BI = ("rows", "rows-reversed")
_QUAD = (*_BI, "columns", "columns-reversed")

DIRECTIONS: dict[str, dict[str, Any]] = {
    "uni": dict(orders=_BI[:1]),
    "bi": dict(orders=_BI),
    "bi-shared": dict(orders=_BI, shared=True),
    "bi-alternating": dict(orders=_BI, alternate=True),
    "quad": dict(orders=_QUAD),
    "quad-shared": dict(orders=_QUAD, shared=True),
    "quad-alternating": dict(orders=_QUAD, alternate=True),
}
"""The block designs of table 2, by the orders in which a block reads its grid: every block reads all of them and adds
the results, or, with `alternate`, block n reads number n modulo their count."""

_V1 = dict(conv="causal", conv_kernel=4, bias=False, norm_bias=False, pooling="bilateral-average")
_V2 = dict(conv="grid", conv_kernel=3, bias=True, norm_bias=True, pooling="bilateral-concat")
_DEIT3 = dict(block="attention", depth=12, layerscale=1e-4, pooling="first-cls")

VARIANTS: dict[str, dict[str, Any]] = {
    # ImageNet-1K top-1 of the paper (v1: table 1; v2: later version) and parameters with 1000 classes
    "vil-tiny": dict(dim=192, depth=24, **_V1),  # 77.3 %, 6,088,360
    "vil-tinyplus": dict(dim=192, depth=29, **_V1),  # 78.1 %, 7,277,840
    "vil-small": dict(dim=384, depth=24, **_V1),  # 80.7 %, 22,792,360
    "vil-smallplus": dict(dim=384, depth=26, **_V1),  # 80.9 %, 24,628,664 (the paper says 26M)
    "vil-base": dict(dim=768, depth=24, **_V1),  # 81.6 %, 88,050,856
    "vil-large": dict(dim=1024, depth=48, **_V1),  # the paper has no accuracy, only its run time; 308,282,728
    "vil2-tiny": dict(dim=192, depth=24, **_V2),  # 78.3 %, 6,391,528
    "vil2-small": dict(dim=384, depth=24, **_V2),  # 81.5 %, 23,398,696
    "vil2-base": dict(dim=768, depth=24, **_V2),  # 82.4 %, 89,263,528
    "deit3-tiny": dict(dim=192, num_heads=3, **_DEIT3),  # 76.2 % (table 6, the authors' reimplementation)
    "deit3-small": dict(dim=384, num_heads=6, **_DEIT3),
    "deit3-base": dict(dim=768, num_heads=12, **_DEIT3),
}

BLOCKS = {"vil": FusedViLBlock, "attention": AttentionBlock}


def variant(name: str) -> dict[str, Any]:
    """Returns the options of a row of `VARIANTS`, a new dict.

    Raises:
        ValueError: unknown name; the known ones are listed.
    """
    refuse_other(name, VARIANTS, "variant of VisionLSTM")
    return dict(VARIANTS[name])


class VisionLSTM(Network):
    """Encodes pictures (B, C_in, H, W) and volumes (B, C_in, D, H, W) by patches, positions, blocks and a head.

    A call returns a vector, logits or a grid; `features` returns maps. The input may have any size: it is padded with
    zeros at the end of each axis to whole patches, and positions are resized to its grid.

    Args:
        dim: channels C of the tokens.
        depth: number of blocks (a pair of the official second version counts as two).
        patch_size, stride: px or voxels, one number or one for each axis; a stride below the patch size overlaps
            patches.
        in_channels: channels of the input, C_in.
        grid: tokens along each axis for which the position embedding is stored; resized where the input's grid differs.
            Its length is the number of spatial axes, 2 or 3.
        direction: a key of `DIRECTIONS`.
        pooling: a key of `POOLINGS`, or None to keep the grid.
        num_classes: width of the classification head; None for no head.
        post_norm, head_norm: the norm after the blocks (on all tokens) and the one after pooling.
        post_norm_eps, head_norm_eps: epsilons of the norms, by default as in the training of published weights.
        drop_path: stochastic depth rate; with `drop_path_decay` rising linearly from 0 at the first block.
        with_cp: recomputes each block in the backward pass instead of saving its activations.
        block: `vil` or `attention` (the transformer control).
        **options: options of the block, see `layers.ViLBlock`, `layers.ViLLayer`, `layers.AttentionBlock`.

    Raises:
        ValueError: a name or option is unknown, or numbers do not fit.
    """

    def __init__(
        self,
        *,
        dim: int = 192,
        depth: int = 24,
        patch_size: int | Sequence[int] = 16,
        stride: int | Sequence[int] | None = None,
        in_channels: int = 3,
        grid: Sequence[int] = (14, 14),
        direction: str = "bi-alternating",
        pooling: str | None = None,
        num_classes: int | None = None,
        post_norm: bool = True,
        head_norm: bool = True,
        post_norm_eps: float = 1e-5,
        head_norm_eps: float = 1e-6,
        drop_path: float = 0.0,
        drop_path_decay: bool = False,
        with_cp: bool = False,
        block: str = "vil",
        **options: Any,
    ) -> None:
        super().__init__()
        check_options(options, block)
        if dim % 8 and block == "vil" and "inner_dim" not in options:
            raise ValueError(f"dim is a multiple of 8 unless inner_dim is given, got {dim}")
        self.ndim = ndim = len(grid)
        if ndim not in (2, 3):
            raise ValueError(f"grid has one number for each axis of a picture (2) or a volume (3), got {tuple(grid)}")
        if pooling is not None:
            refuse_other(pooling, POOLINGS, "pooling")
        if num_classes is not None and pooling is None:
            raise ValueError(f"num_classes={num_classes} needs a pooling; known: {', '.join(POOLINGS)}")
        self.dim, self.pooling = dim, pooling
        patch = per_axis(patch_size, ndim, "patch_size")
        steps = patch if stride is None else per_axis(stride, ndim, "stride")
        # Xavier's is ViL's, the other DeiT-III's.
        self.patch_embed = PatchEmbed(in_channels, dim, patch, steps, std=0.02 if block == "attention" else None)
        self.pos_embed = PosEmbed(per_axis(grid, ndim, "grid"), dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02) if pooling in CLS_POOLINGS else None
        rates = drop_path_rates(drop_path, depth) if drop_path_decay else [drop_path] * depth
        # With a CLS token the tokens are a sequence, no grid.
        block_ndim = 1 if self.cls_token is not None else ndim
        self.blocks = nn.ModuleList(
            _make_block(block, dim, index, depth, block_ndim, direction, dict(options, drop_path=rate))
            for index, rate in enumerate(rates)
        )
        self.recompute = options.get("recompute", True)
        self.with_cp = with_cp
        norm_bias = options.get("norm_bias", True)
        self.post_norm = nn.LayerNorm(dim, eps=post_norm_eps, bias=norm_bias) if post_norm else nn.Identity()
        width = 2 * dim if pooling == "bilateral-concat" else dim
        self.head_norm = nn.LayerNorm(width, eps=head_norm_eps) if head_norm else nn.Identity()
        self.head = nn.Linear(width, num_classes) if num_classes else None
        if self.head is not None:
            nn.init.trunc_normal_(self.head.weight, std=2e-5)
            nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits (B, num_classes); without a head a vector (B, C), or (B, 2 C) of `bilateral-concat`; without
        pooling the grid (B, *grid, C)."""
        tokens = self._embed(x)
        for block in self.blocks:
            tokens = self.run_block(block, tokens)
        tokens = self.post_norm(tokens)
        if self.pooling is None:
            return self.head_norm(tokens)
        pooled = self.head_norm(POOLINGS[self.pooling](tokens.flatten(1, -2)))
        return pooled if self.head is None else self.head(pooled)

    def features(self, x: Tensor, out_indices: Sequence[int]) -> list[Tensor]:
        """Computes the raw outputs of the blocks `out_indices`, each (B, C, *grid), in the order of `out_indices`.

        Indices count single blocks from 0; negative ones from the end. Blocks after the last requested one do not run.
        """
        wanted = counted_from_start(out_indices, self.blocks, "block")
        tokens, maps = self._embed(x), {}
        for index, block in enumerate(self.blocks[: max(wanted) + 1]):
            tokens = self.run_block(block, tokens)
            if index in wanted:
                maps[index] = self._to_map(tokens, x.shape[2:])
        return [maps[index] for index in wanted]

    def compile_blocks(self) -> "VisionLSTM":
        """Compiles the blocks in place and returns the network; see the function `compile_blocks`."""
        compile_blocks(self)
        return self

    def _embed(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing() and torch.onnx.is_in_onnx_export():
            raise RuntimeError("torch.onnx.export(dynamo=False) cannot take a VisionLSTM: leave out dynamo=False")
        self.check_input(x, self.patch_embed.proj.in_channels)
        tokens = self.pos_embed(self.patch_embed(x)).contiguous()
        if self.cls_token is None:
            return tokens
        return insert_cls(tokens.flatten(1, -2), self.cls_token, str(self.pooling))

    def _to_map(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        if self.cls_token is not None:
            tokens = remove_cls(tokens, str(self.pooling)).unflatten(1, self.patch_embed.grid(size))
        return tokens.movedim(-1, 1).contiguous()


def compile_blocks(network: nn.Module) -> None:
    """Lets torch.compile fuse the inside of our blocks, wherever they are in `network`, in place.

    Code is compiled at the first call, once for all sizes but those of 1, which get their own. Layers that are computed
    module by module (see `layers.fused.describe_forms`) stay as they are.

    Raises:
        RuntimeError: nothing can be compiled for the network's device, and why.
    """
    device = next(network.parameters()).device.type
    if problem := compiler_problem(device):
        raise RuntimeError(f"cannot compile for {device}: {problem}")
    for module in network.modules():
        if isinstance(module, FusedViLLayer):
            module.compiled = True
        elif isinstance(module, AttentionBlock):
            module.compile(dynamic=True, fullgraph=True)


def check_options(options: Mapping[str, Any], block: str, others: Sequence[str] = ()) -> None:
    """Checks the names of options for a network with blocks of this name.

    Args:
        others: names that the caller takes itself.

    Raises:
        ValueError: a name is unknown; the nearest known one is suggested.
    """
    refuse_other(block, BLOCKS, "block")
    known = {*sequence_options(block), *signature(VisionLSTM).parameters, *others}
    refuse_unknown(options, known, f"a network with block {block!r}")


def _make_block(
    name: str, dim: int, index: int, depth: int, ndim: int, direction: str, options: dict[str, Any]
) -> nn.Module:
    """Makes block `index` of `depth`, its orders taken from `direction`."""
    refuse_other(direction, DIRECTIONS, "direction")
    if name == "vil":
        design = dict(DIRECTIONS[direction])
        if design.pop("alternate", False):
            design["orders"] = (design["orders"][index % len(design["orders"])],)
        if ndim == 1 and options.get("conv", "grid") == "grid":
            raise ValueError("a CLS token turns the grid into a sequence: it needs conv='causal', got conv='grid'")
        options = dict(options, ndim=ndim, depth=depth, **design)
    return BLOCKS[name](dim, **options)
