"""Trains a part of a model: neck, heads and decoder with LoRA in the backbone, or with a frozen backbone.

`lora=8` or `freeze_backbone=True` at the top of a config, or after `--cfg-options`, says which; `ViLRunner` does it.
"""

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from vil_dense.layers.lora import TARGETS, add_lora
from vil_dense.mm.utils.unwrap import unwrap

OPTIONS = ("lora", "freeze_backbone")
"""Keys at the top of a config."""


def set_trained_parts(model: nn.Module, cfg: Config) -> str:
    """Adds LoRA to the backbone of a model or freezes it, as a config says; returns a line for the log, or "".

    Raises:
        ValueError: an option cannot be, both are set, or the model has no backbone that is known.
    """
    lora, frozen = (cfg.get(option) for option in OPTIONS)
    if frozen not in (None, True, False):
        raise ValueError(f"freeze_backbone is True or False, got {frozen!r}")
    if lora is None and not frozen:
        return ""
    if lora is not None and frozen:
        raise ValueError("lora freezes the backbone but its adapters, so freeze_backbone cannot be set beside it")
    backbone, others = backbone_of(model)
    if lora is not None:
        options = _lora_options(lora)
        found = add_lora(backbone, **options)
        whole = f", {len(found.whole)} modules of it trained whole" if found.whole else ""
        how = f"LoRA of rank {options['rank']} in {len(found.lora)} linear maps of the backbone{whole}"
    else:
        backbone.requires_grad_(False)
        how = "the backbone is frozen"
    for module in others:
        module.requires_grad_(True)
    model.train()  # a backbone freezes the blocks after its last map again
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return f"trained parameters: {trained:,} of {total:,} ({trained / total:.1%}); {how}"


def backbone_of(model: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """Returns the network that holds the backbone of a segmentor, and the parts of this network that are not backbone.

    Of `ViL` and `HierViL` the backbone is what published weights hold, so that norms of the feature maps are trained
    with the heads; of `ViLUNet3D` and `ViLUNETR3D` it is all but the decoder.

    Raises:
        ValueError: the model has another form.
    """
    if isinstance(backbone := getattr(model, "backbone", None), nn.Module):
        return getattr(backbone, "net", backbone), []
    if isinstance(network := getattr(model, "network", None), nn.Module):
        if isinstance(decoder := getattr(network, "decoder", None), nn.Module):
            return network, [decoder]
        model = network
    raise ValueError(
        f"{' and '.join(OPTIONS)} are for segmentors with a backbone, ViLUNet3D and ViLUNETR3D; a "
        f"{type(model).__name__} has none that is known"
    )


def _lora_options(lora: Any) -> dict[str, Any]:
    """Returns rank, alpha and targets; raises ValueError if they cannot be."""
    given = dict(lora) if isinstance(lora, Mapping) else dict(rank=lora)
    if unknown := sorted(given.keys() - {"rank", "alpha", "targets"}):
        raise ValueError(f"lora is a rank, or a dict with rank, alpha and targets, got also {', '.join(unknown)}")
    rank = given.get("rank")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise ValueError(f"the rank of lora is a whole number from 1 on, got {rank!r}")
    alpha = given.get("alpha", rank)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < float("inf"):
        raise ValueError(f"alpha of lora is a positive number, got {alpha!r}")
    targets = given.get("targets", TARGETS)
    if not isinstance(targets, (list, tuple)) or not targets or not all(isinstance(name, str) for name in targets):
        raise ValueError(f"targets of lora are names of modules, as in ['proj_up', 'q_proj'], got {targets!r}")
    return dict(rank=rank, alpha=float(alpha), targets=tuple(targets))


@HOOKS.register_module()
class FrozenBackboneHook(Hook):
    """Keeps a frozen backbone in evaluation mode, without stochastic depth, as nothing in it learns from noise."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        backbone, others = backbone_of(unwrap(runner.model))
        backbone.eval()
        for module in others:
            module.train()
        if others:  # the network itself says by its mode whether all scales get logits
            backbone.training = True
