"""Registers ViL and HierViL as backbones for mmsegmentation and other projects based on MMEngine."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vil_dense.backbones import HierViL, VisionLSTM, hierarchical_variant
from vil_dense.backbones import variant as variant_options
from vil_dense.backbones.checkpoint import load_weights
from vil_dense.backbones.network import counted_from_start
from vil_dense.backbones.vision_lstm import check_options
from vil_dense.layers.fused import describe_forms
from vil_dense.mm.models.pretrained import DEFAULT_DIRECTION, checkpoint_of, naming, read_pretrained
from vil_dense.ops import resolve_backend


class FeatureMaps(BaseModule):
    """Returns maps of the network `net`, with a LayerNorm each if wanted, and loads its weights by `init_cfg`.

    Attributes:
        name: in the registry and in the log.
        net: a network with `features`.
        out_indices: what its maps are of, counted from 0.
        out_norms: a LayerNorm for each map, or None.
        out_channels, strides: channels and stride of each map; strides in px, one number for square patches.
        direction: reading order of the blocks, which weights are checked for.
    """

    _is_init: bool  # set by `BaseModule`
    name: str
    net: VisionLSTM | HierViL
    out_indices: tuple[int, ...]
    out_norms: nn.ModuleList | None
    out_channels: tuple[int, ...]
    strides: tuple[Any, ...]
    direction = DEFAULT_DIRECTION

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.net.features(x, self.out_indices)
        if self.out_norms is not None:
            maps = [norm(x.movedim(1, -1)).movedim(-1, 1) for norm, x in zip(self.out_norms, maps, strict=True)]
        return tuple(maps)

    def init_weights(self) -> None:
        """Loads the checkpoint of `init_cfg`; without one the parameters are left as they were constructed.

        Raises:
            ValueError: `init_cfg` has another form, or the checkpoint does not fit.
        """
        if self.init_cfg is None or self._is_init:
            return
        path = checkpoint_of(self.init_cfg)
        with naming(path):
            own, kind = read_pretrained(path, self.direction)
            norms = {key.removeprefix("out_norms."): own.pop(key) for key in list(own) if key.startswith("out_norms.")}
            report = load_weights(self.net, own) + self._load_norms(norms)
        print_log(f"{self.name} {kind} from {path}: {report}", "current")
        self._is_init = True

    def _load_norms(self, norms: dict[str, Tensor]) -> str:
        """Loads the norms of the maps if the checkpoint has as many; returns a line for the report."""
        if self.out_norms is None:
            return ""
        own = self.out_norms.state_dict()
        if {key: value.shape for key, value in norms.items()} != {key: value.shape for key, value in own.items()}:
            return f", left new out_norms ({len(own)} tensors)"
        self.out_norms.load_state_dict(norms)
        return f", {len(norms)} tensors of out_norms"

    def train(self, mode: bool = True) -> "FeatureMaps":
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        raise NotImplementedError

    def _refuse_options_of_classifiers(self, options: dict[str, Any]) -> None:
        if given := {"post_norm", "head_norm", "num_classes"} & set(options):
            raise ValueError(
                f"{self.name} returns maps and has no option {', '.join(sorted(given))}; classes belong to the "
                "decode_head, and out_norm=True adds norms"
            )

    def _check_places(self, out_indices: Sequence[int], frozen_stages: int, parts: nn.ModuleList, what: str) -> None:
        """Checks that `out_indices` and `frozen_stages` name parts of the network that are there."""
        if not out_indices or not -1 <= frozen_stages <= len(parts):
            raise ValueError(
                f"out_indices has to name at least one {what}, and frozen_stages be -1 to {len(parts)}, "
                f"got {out_indices} and {frozen_stages}"
            )

    def _log_backend(self, requested: str, size: str) -> None:
        backend = f"mLSTM backend {resolve_backend(requested)} (requested: {requested})"
        print_log(f"{self.name}, {size}: {backend}, {describe_forms(self.net)}", "current")


@MODELS.register_module(name="ViL")
class ViL(FeatureMaps):
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

    Raises:
        ValueError: a variant or option is unknown, or a block does not exist.
    """

    name = "ViL"
    net: VisionLSTM

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
        self._refuse_options_of_classifiers(options)
        given, options = options, {**variant_options(variant), "pooling": None, **options}
        check_options(given, options.get("block", "vil"), [*signature(ViL).parameters])
        self.net = VisionLSTM(post_norm=False, head_norm=False, **options)
        self._check_places(out_indices, frozen_stages, self.net.blocks, "block")
        self.direction = options.get("direction", DEFAULT_DIRECTION)
        self.out_indices = counted_from_start(out_indices, self.net.blocks, "block")
        self.out_norms = nn.ModuleList(nn.LayerNorm(self.net.dim) for _ in self.out_indices) if out_norm else None
        self.out_channels = (self.net.dim,) * len(self.out_indices)
        stride = self.net.patch_embed.stride
        self.strides = ((stride[0] if len(set(stride)) == 1 else stride),) * len(self.out_indices)
        self.frozen_stages = frozen_stages
        self._freeze()
        if options.get("block", "vil") == "vil":
            size = f"{len(self.net.blocks)} blocks of {self.net.dim} channels"
            self._log_backend(options.get("backend", "auto"), size)

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


@MODELS.register_module(name="HierViL")
class HierViLBackbone(FeatureMaps):
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

    Raises:
        ValueError: a variant or option is unknown, or a stage does not exist.
    """

    name = "HierViL"
    net: HierViL

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
        self._refuse_options_of_classifiers(options)
        self.net = HierViL(**{**hierarchical_variant(variant), **options}, head_norm=False)
        self._check_places(out_indices, frozen_stages, self.net.stages, "stage")
        self.out_indices = counted_from_start(out_indices, self.net.stages, "stage")
        self.out_channels = tuple(self.net.dims[index] for index in self.out_indices)
        self.strides = tuple(self.net.strides[index] for index in self.out_indices)
        self.out_norms = nn.ModuleList(nn.LayerNorm(dim) for dim in self.out_channels) if out_norm else None
        self.frozen_stages = frozen_stages
        self._freeze()
        if options.get("sequence", "vil") == "vil":
            size = f"stages of {', '.join(map(str, self.net.dims))} channels"
            self._log_backend(options.get("backend", "auto"), size)

    def _freeze(self) -> None:
        # No map depends on them: DDP would wait for their gradients, and weight decay would shrink them.
        for stage in self.net.stages[max(self.out_indices) + 1 :]:
            stage.requires_grad_(False)
        for stage in self.net.stages[: max(self.frozen_stages, 0)]:
            stage.eval().requires_grad_(False)
