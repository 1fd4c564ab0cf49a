"""Sets layer-wise learning rates for ViL; two blocks form one layer (BEiT's rule, arXiv 2106.08254)."""

import re
from collections import defaultdict
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

DEFAULTS = dict(layer_decay_rate=1.0, blocks_per_layer=2)
EMBEDDINGS = ("pos_embed.embed", "cls_token", ".queries", ".query_positions", ".map_embeddings")
"""Lists the ends of the names of learned embeddings, which have no weight decay."""
_STEM = re.compile(r"^backbone\.net\.(patch_embed|pos_embed|cls_token)")
_BLOCK = re.compile(r"^backbone\.net\.blocks\.(\d+)\.")


def layer_scale_of(name: str, depth: int, rate: float, blocks_per_layer: int) -> float:
    """Returns the factor on the learning rate of a parameter of a segmentor or classifier with `depth` blocks.

    With N = ceil(depth / blocks_per_layer) layers: rate^(N + 1) for the embeddings, rate^(N - b // blocks_per_layer)
    for block b, 1 for everything else.
    """
    layers = -(-depth // blocks_per_layer)
    if _STEM.match(name):
        return rate ** (layers + 1)
    if block := _BLOCK.match(name):
        return rate ** (layers - int(block[1]) // blocks_per_layer)
    return 1.0


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
        depth = 1 + max((int(match[1]) for name in names if (match := _BLOCK.match(name))), default=-1)
        if depth == 0 and rate != 1:
            raise ValueError("ViLLayerDecay found no block of a ViL under backbone.net.blocks")
        groups = defaultdict(list)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                scale = layer_scale_of(name, depth, rate, blocks_per_layer)
                groups[scale, decays(name, parameter.ndim)].append(parameter)
        for (scale, decay), members in sorted(groups.items(), key=lambda item: item[0]):
            params.append(
                dict(params=members, lr=self.base_lr * scale, weight_decay=(self.base_wd or 0.0) if decay else 0.0)
            )
        blocks = f"{blocks_per_layer} block{'s' * (blocks_per_layer != 1)} per layer"
        print_log(f"{len(params)} parameter groups, layer decay {rate}, {blocks}", "current")
