"""Registers the volume networks, (B, C, I, J, K) -> logits (B, K, I, J, K), of this package and of MONAI."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from monai.networks.nets import DynUNet, SegResNet
from torch import Tensor, nn

from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.networks.vil_unet import ViLUNet3D
from vil_dense.medical.networks.vil_unetr import ViLUNETR3D

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ViLUNet3D": ViLUNet3D,
    "ViLUNETR3D": ViLUNETR3D,
    "DynUNet": partial(DynUNet, 3),
    "SegResNet": partial(SegResNet, 3),
}
"""Networks by the names in configs; those of MONAI are for comparison."""


def network_options(plan: Mapping[str, Any], type: str, **options: Any) -> dict[str, Any]:
    """Returns the arguments of the network `type` of `NETWORKS`.

    They are the plan's channels, labels, spacing and patch, and for `ViLUNet3D` its options in the plan (`network`);
    `options` override all of these.

    Raises:
        ValueError: the network is unknown.
    """
    if type not in NETWORKS:
        raise ValueError(f"unknown network {type!r}; known: {', '.join(NETWORKS)}")
    own = dict(in_channels=len(plan["channels"]), out_channels=len(LabelMap.of(plan).outputs))
    if type.startswith("ViL"):
        own.update(spacing_mm=plan["spacing_mm"], patch_vox=plan["patch_vox"])
    if type == "ViLUNet3D":
        own.update(plan.get("network", {}))
    return {**own, **options}


def build_network(plan: Mapping[str, Any], type: str, **options: Any) -> nn.Module:
    """Builds the network of `network_options`; raises ValueError if options do not fit."""
    options = network_options(plan, type, **options)
    return NETWORKS[type](**options)


def logits_of(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Returns a network's output as a list of logits, the finest first (DynUNet stacks them along axis 1)."""
    if isinstance(output, Tensor):
        return list(output.unbind(1)) if output.ndim == 6 else [output]
    return list(output)
