"""Registers ViL as a backbone for mmsegmentation and other projects based on MMEngine."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vil_dense.backbones import VisionLSTM
from vil_dense.backbones import variant as variant_options
from vil_dense.backbones.checkpoint import load_weights
from vil_dense.backbones.vision_lstm import check_options
from vil_dense.layers.fused import describe_forms
from vil_dense.mm.models.pretrained import naming, read_pretrained
from vil_dense.ops import resolve_backend


@MODELS.register_module(name="ViL")
class ViL(BaseModule):
    """Returns multi-scale maps of a `VisionLSTM`: (B, C_in, H, W) -> a tuple of (B, C, ceil(H / p), ceil(W / p)).

    Args:
        variant: a key of `backbones.VARIANTS`, e.g. `vil2-tiny`.
        out_indices: blocks whose outputs are returned, counted from 0, negative ones from the end.
        out_norm: whether each feature map has a LayerNorm (the official segmentation models have none).
        frozen_stages: -1 trains everything; n >= 0 freezes the embeddings and the first n blocks.
        init_cfg: `dict(type="Pretrained", checkpoint=FILE)` loads the weights of a classifier or segmentor of this
            package, or published ones in any layout that `backbones.checkpoint` supports, strictly and without running
            code from the file; the log lists what was loaded, resized, dropped and newly initialised.
        **options: any option of `VisionLSTM`; overrides that of the variant.

    Attributes:
        out_channels, strides: channels and stride of each feature map; strides in px, one number for square patches.

    Raises:
        ValueError: a variant or option is unknown, or a block does not exist.
    """

    _is_init: bool  # set by `BaseModule`

    def __init__(
        self,
        variant: str = "vil2-tiny",
        *,
        out_indices: Sequence[int] = (7, 11, 15, 23),
        out_norm: bool = False,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        if fixed := {"post_norm", "head_norm", "num_classes"} & set(options):
            raise ValueError(
                f"ViL returns raw maps and has no option {', '.join(sorted(fixed))}; out_norm=True adds norms"
            )
        given, options = options, {**variant_options(variant), "pooling": None, **options}
        check_options(given, options.get("block", "vil"), [*signature(ViL).parameters])
        self.net = VisionLSTM(post_norm=False, head_norm=False, **options)
        if not out_indices or not -1 <= frozen_stages <= len(self.net.blocks):
            raise ValueError(
                f"out_indices has to name at least one block, and frozen_stages be -1 to {len(self.net.blocks)}, "
                f"got {out_indices} and {frozen_stages}"
            )
        self.direction = options.get("direction", "bi-alternating")
        self.out_indices = tuple(self.net.block_index(index) for index in out_indices)
        self.out_norms = nn.ModuleList(nn.LayerNorm(self.net.dim) for _ in self.out_indices) if out_norm else None
        self.out_channels = (self.net.dim,) * len(self.out_indices)
        stride = self.net.patch_embed.stride
        self.strides = ((stride[0] if len(set(stride)) == 1 else stride),) * len(self.out_indices)
        self.frozen_stages = frozen_stages
        self._freeze()
        if options.get("block", "vil") == "vil":
            requested = options.get("backend", "auto")
            backend = f"mLSTM backend {resolve_backend(requested)} (requested: {requested})"
            size = f"{len(self.net.blocks)} blocks of {self.net.dim} channels"
            print_log(f"ViL, {size}: {backend}, {describe_forms(self.net)}", "current")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.net.features(x, self.out_indices)
        if self.out_norms is not None:
            maps = [norm(x.movedim(1, -1)).movedim(-1, 1) for norm, x in zip(self.out_norms, maps, strict=True)]
        return tuple(maps)

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`; without one the parameters are left as they were constructed."""
        if self.init_cfg is None or self._is_init:
            return
        print_log(f"ViL {load_init_cfg(self.init_cfg, self.net, self.out_norms, self.direction)}", "current")
        self._is_init = True

    def train(self, mode: bool = True) -> "ViL":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        # No map depends on them: DDP would wait for their gradients, and weight decay would shrink them.
        for block in self.net.blocks[max(self.out_indices) + 1 :]:
            block.requires_grad_(False)
        if self.frozen_stages < 0:
            return
        if self.net.cls_token is not None:
            self.net.cls_token.requires_grad_(False)
        frozen: list[nn.Module] = [self.net.patch_embed, self.net.pos_embed, *self.net.blocks[: self.frozen_stages]]
        for module in frozen:
            module.eval().requires_grad_(False)


def load_init_cfg(init_cfg: object, net: nn.Module, out_norms: nn.ModuleList | None, direction: str) -> str:
    """Loads the checkpoint of an `init_cfg` into a network and the norms of its maps; returns a line for the log.

    Raises:
        ValueError: `init_cfg` has another form, or the checkpoint does not fit.
    """
    if not isinstance(init_cfg, dict) or set(init_cfg) != {"type", "checkpoint"}:
        raise ValueError(f"init_cfg is dict(type='Pretrained', checkpoint=FILE), got {init_cfg}")
    path = str(init_cfg["checkpoint"])
    with naming(path):
        own, kind = read_pretrained(path, direction)
        norms = {key.removeprefix("out_norms."): own.pop(key) for key in list(own) if key.startswith("out_norms.")}
        report = load_weights(net, own)
    if out_norms is not None:
        report += load_out_norms(out_norms, norms)
    return f"{kind} from {path}: {report}"


def load_out_norms(out_norms: nn.ModuleList, norms: dict[str, Tensor]) -> str:
    """Loads the norms of the feature maps if the checkpoint has as many; returns a line for the report."""
    own = out_norms.state_dict()
    if {key: value.shape for key, value in norms.items()} != {key: value.shape for key, value in own.items()}:
        return f", left new out_norms ({len(own)} tensors)"
    out_norms.load_state_dict(norms)
    return f", {len(norms)} tensors of out_norms"
