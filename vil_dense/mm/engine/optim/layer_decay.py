"""Sets layer-wise learning rates; two blocks of ViL form one layer (BEiT's rule, arXiv 2106.08254)."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

DEFAULTS = dict(layer_decay_rate=1.0, blocks_per_layer=2)
EMBEDDINGS = ("pos_embed.embed", "cls_token", ".queries", ".query_positions", ".map_embeddings")
"""Lists the ends of the names of learned embeddings, which have no weight decay."""
_STEM = re.compile(
    r"(backbone\.)?net\.(patch_embed|pos_embed|cls_token|stages\.0\.(entry|position))|network\.(tokenizer|position)\."
)
"""Beginnings of the names of parameters before the first block."""
_PLACES = (
    re.compile(r"(backbone\.)?net\.blocks\.(?P<block>\d+)\."),
    re.compile(r"(backbone\.)?net\.stages\.(?P<stage>\d+)\.(blocks\.(?P<block>\d+)|entry|position)\."),
    re.compile(r"network\.encoder\.levels\.(?P<stage>\d+)\."),
    re.compile(r"network\.stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\."),
    re.compile(r"network\.stage\.blocks\.(?P<block>\d+)\."),
)
"""Beginnings of the names of a block's parameters in `ViL`, `HierViL`, `ViLUNet3D` (two) and `ViLUNETR3D`; a backbone
of mmseg may be a part of a model or the model itself."""


def place_of(name: str) -> tuple[int, int] | None:
    """Returns stage and block of a parameter of a backbone, in the order of the forward pass; None outside of blocks.

    A stage's entry goes with its first block; the convolutions of a scale of `ViLUNet3D` are block -1 of it.
    """
    found = next((match for place in _PLACES if (match := place.match(name))), None)
    if found is None or _STEM.match(name):
        return None
    parts = found.groupdict()
    first = -1 if name.startswith("network.encoder") else 0
    return int(parts.get("stage") or 0), first if parts.get("block") is None else int(parts["block"])


def layer_scales(names: Sequence[str], rate: float, blocks_per_layer: int) -> dict[str, float]:
    """Returns the factor on the learning rate of each parameter of a segmentor or classifier.

    With N = ceil(blocks / blocks_per_layer) layers: rate^(N + 1) for the embeddings or the stem,
    rate^(N - b // blocks_per_layer) for block b of all stages, 1 for everything else. The convolutions of a scale of
    `ViLUNet3D` count as a block.
    """
    places = {name: place for name in names if (place := place_of(name))}
    number = {place: index for index, place in enumerate(sorted({*places.values()}))}
    layers = -(-len(number) // blocks_per_layer)
    scales = {name: rate ** (layers - number[place] // blocks_per_layer) for name, place in places.items()}
    stem = rate ** (layers + 1)
    return {name: scales.get(name, stem if _STEM.match(name) else 1.0) for name in names}


def decays(name: str, ndim: int) -> bool:
    """Returns whether weight decay acts on a parameter: not on vectors, biases, embeddings, queries and CLS token."""
    return ndim > 1 and not name.endswith((".bias", *EMBEDDINGS))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class ViLLayerDecay(DefaultOptimWrapperConstructor):
    """Groups parameters by learning rate and weight decay, for a `paramwise_cfg` with

    layer_decay_rate: factor from one layer to the one before it, 1 for none;
    blocks_per_layer: how many blocks form one layer, 2 for ViL, 1 for the transformer.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        options = {**DEFAULTS, **(paramwise_cfg or {})}
        if unknown := sorted(set(options) - set(DEFAULTS)):
            raise ValueError(f"ViLLayerDecay knows {' and '.join(DEFAULTS)}, got also {unknown}")
        # never empty: with an empty one MMEngine forms no groups and decays every vector
        super().__init__(optim_wrapper_cfg, options)

    def add_params(self, params: list[dict], module: nn.Module, **kwargs: Any) -> None:
        rate, blocks_per_layer = (self.paramwise_cfg[key] for key in DEFAULTS)
        names = [name for name, _ in module.named_parameters()]
        if rate != 1 and not any(map(place_of, names)):
            raise ValueError(
                "ViLLayerDecay found no block of ViL, HierViL, ViLUNet3D or ViLUNETR3D, which layer_decay_rate is for"
            )
        scales = layer_scales(names, rate, blocks_per_layer)
        groups = defaultdict(list)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                groups[scales[name], decays(name, parameter.ndim)].append(parameter)
        for (scale, decay), members in sorted(groups.items(), key=lambda item: item[0]):
            params.append(
                dict(params=members, lr=self.base_lr * scale, weight_decay=(self.base_wd or 0.0) if decay else 0.0)
            )
        blocks = f"{blocks_per_layer} block{'s' * (blocks_per_layer != 1)} per layer"
        layers = "no layer decay" if rate == 1 else f"layer decay {rate}, {blocks}"
        print_log(f"{len(params)} parameter groups, {layers}", "current")
