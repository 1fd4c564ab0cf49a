"""Registers HierViL as a backbone for mmsegmentation and other projects based on MMEngine."""

from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vil_dense.backbones import HierViL, hierarchical_variant
from vil_dense.layers.fused import describe_forms
from vil_dense.mm.models.backbone import load_init_cfg
from vil_dense.mm.models.pretrained import DEFAULT_DIRECTION
from vil_dense.ops import resolve_backend


@MODELS.register_module(name="HierViL")
class HierViLBackbone(BaseModule):
    """Returns the feature maps of a `HierViL`: (B, C_in, H, W) -> a tuple of (B, C, ceil(H / s), ceil(W / s)).

    The strides s are 4, 8, 16 and 32, as heads for pyramids expect them (UPerHead, SegformerHead, FPN).

    Args:
        variant: a key of `backbones.HIERARCHICAL_VARIANTS`.
        out_indices: stages whose maps are returned, counted from 0, negative ones from the end.
        out_norm: whether each feature map has a LayerNorm, as the feature maps of Swin and ConvNeXt have in mmseg.
        frozen_stages: -1 trains everything; n >= 0 freezes the first n stages.
        init_cfg: `dict(type="Pretrained", checkpoint=FILE)` loads the weights of a classifier or segmentor of this
            package, strictly and without running code from the file.
        **options: any option of `HierViL`; overrides that of the variant.

    Attributes:
        out_channels, strides: channels, and stride in px, of each feature map.

    Raises:
        ValueError: a variant or option is unknown, or a stage does not exist.
    """

    _is_init: bool  # set by `BaseModule`

    def __init__(
        self,
        variant: str = "hiervil-tiny",
        *,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        out_norm: bool = True,
        frozen_stages: int = -1,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        if fixed := {"head_norm", "num_classes"} & set(options):
            raise ValueError(
                f"HierViL returns maps and has no option {', '.join(sorted(fixed))}; "
                "classes belong to the decode_head, and out_norm=True adds norms"
            )
        self.net = HierViL(**{**hierarchical_variant(variant), **options}, head_norm=False)
        if not out_indices or not -1 <= frozen_stages <= len(self.net.stages):
            raise ValueError(
                f"out_indices has to name at least one stage, and frozen_stages be -1 to {len(self.net.stages)}, "
                f"got {out_indices} and {frozen_stages}"
            )
        self.out_indices = tuple(self.net.stage_index(index) for index in out_indices)
        self.out_channels = tuple(self.net.dims[index] for index in self.out_indices)
        self.strides = tuple(self.net.strides[index] for index in self.out_indices)
        self.out_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in self.out_channels) if out_norm else None
        self.frozen_stages = frozen_stages
        self._freeze()
        if options.get("sequence", "vil") == "vil":
            requested = options.get("backend", "auto")
            backend = f"mLSTM backend {resolve_backend(requested)} (requested: {requested})"
            size = f"stages of {', '.join(map(str, self.net.dims))} channels"
            print_log(f"HierViL, {size}: {backend}, {describe_forms(self.net)}", "current")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.net.features(x, self.out_indices)
        if self.out_norms is not None:
            maps = [norm(x.movedim(1, -1)).movedim(-1, 1) for norm, x in zip(self.out_norms, maps, strict=True)]
        return tuple(maps)

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`; without one the parameters are left as they were constructed."""
        if self.init_cfg is None or self._is_init:
            return
        report = load_init_cfg(self.init_cfg, self.net, self.out_norms, DEFAULT_DIRECTION)
        print_log(f"HierViL {report}", "current")
        self._is_init = True

    def train(self, mode: bool = True) -> "HierViLBackbone":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        # No map depends on them: DDP would wait for their gradients, and weight decay would shrink them.
        for stage in self.net.stages[max(self.out_indices) + 1 :]:
            stage.requires_grad_(False)
        for stage in self.net.stages[: max(self.frozen_stages, 0)]:
            stage.eval().requires_grad_(False)
