"""Defines LoRA (arXiv 2106.09685): frozen linear maps, each with a trained product of two narrow ones."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

TARGETS = ("proj_up", "proj_down", "layer.qkv", "layer.proj")
"""Names the maps of ViL's and of transformer blocks that get an adapter by default."""
PARTS = ("lora_down", "lora_up", "lora_scale")
"""Names the tensors of an adapter in a state dict, beside `weight` and `bias` of its map."""


class LoRALinear(nn.Linear):
    """Computes W x + b + alpha / rank * U D x, (..., in) -> (..., out), where only U and D are trained.

    W and b are those of a linear map and keep their names, so that plain weights load. D is (rank, in); U is
    (out, rank) and begins with zeros, so that training begins with the plain map (section 4.1).

    Args:
        base: the map, whose parameters are frozen.
        rank: of the product, from 1 on.
        alpha: the product is multiplied by alpha / rank.
    """

    lora_scale: Tensor

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__(base.in_features, base.out_features, base.bias is not None, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.requires_grad_(False)
        like = base.weight.detach()
        self.lora_down = nn.Parameter(like.new_empty(rank, base.in_features))
        self.lora_up = nn.Parameter(like.new_zeros(base.out_features, rank))
        # in the state dict, so that a checkpoint alone says how to merge
        self.register_buffer("lora_scale", like.new_tensor(alpha / rank))
        nn.init.kaiming_uniform_(self.lora_down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.lora_scale * F.linear(F.linear(x, self.lora_down), self.lora_up)


class Adapted(NamedTuple):
    """Stores the names of the maps with an adapter, and of the modules that are trained whole."""

    lora: list[str]
    whole: list[str]


def add_lora(network: nn.Module, rank: int, alpha: float, targets: Sequence[str] = TARGETS) -> Adapted:
    """Freezes a network and replaces its target maps by `LoRALinear`, in place.

    A target that is no `nn.Linear` is trained whole: ViL's block-diagonal q, k and v have fewer weights than an
    adapter, and stay block-diagonal.

    Args:
        network: the backbone; its trained parameters are afterwards those of the targets alone.
        rank, alpha: see `LoRALinear`.
        targets: ends of module names, as in `proj_up` or `layer.qkv`.

    Raises:
        ValueError: a target fits no module; of the default ones, if none does; or the network has adapters already.
    """
    modules = dict(network.named_modules())
    if any(isinstance(module, LoRALinear) for module in modules.values()):
        raise ValueError(f"{type(network).__name__} has LoRA adapters already: merge or remove them first")
    network.requires_grad_(False)
    fits = {target: [name for name in modules if f".{name}".endswith(f".{target}")] for target in targets}
    missing = [target for target, names in fits.items() if not names]
    if missing and (tuple(targets) != TARGETS or len(missing) == len(TARGETS)):
        linear = {name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, nn.Linear)}
        raise ValueError(
            f"LoRA found no module {' or '.join(missing)} in {type(network).__name__}; its linear maps: "
            f"{', '.join(sorted(linear)) or 'none'}"
        )
    found = Adapted([], [])
    for name in dict.fromkeys(name for names in fits.values() for name in names):
        module = modules[name]
        if isinstance(module, nn.Linear):
            parent, _, own = name.rpartition(".")
            setattr(modules[parent], own, LoRALinear(module, rank, alpha))
            found.lora.append(name)
        else:
            module.requires_grad_(True)
            found.whole.append(name)
    return found


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Returns the state dict of a network without its adapters, which is what plain weights have to fill."""
    return {name: value for name, value in network.state_dict().items() if name.rpartition(".")[2] not in PARTS}


def merge_lora(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights in which each adapter is added to its map, as a network without adapters takes them.

    An adapter that is not complete, or does not fit its map, is left as it is, and `load_exactly` names it.
    """
    merged = dict(weights)
    for key in [key for key in weights if key.endswith(".lora_up")]:
        names = [f"{key.removesuffix('lora_up')}{part}" for part in ("weight", *PARTS)]
        tensors = [weights.get(name) for name in names]
        if not all(isinstance(tensor, Tensor) for tensor in tensors):
            continue
        weight, down, up, scale = (tensor.double() for tensor in tensors if tensor is not None)
        if down.ndim != 2 or up.ndim != 2 or scale.ndim or (*up.shape[:1], *down.shape[1:]) != weight.shape:
            continue
        if up.shape[1] != down.shape[0]:
            continue
        merged[names[0]] = (weight + scale * (up @ down)).to(weights[names[0]].dtype)
        for name in names[1:]:
            del merged[name]
    return merged
