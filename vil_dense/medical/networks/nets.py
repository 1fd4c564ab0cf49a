"""Registers the volume networks, (B, C, I, J, K) -> logits (B, K, I, J, K), of this package and of MONAI."""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

from monai.losses import DeepSupervisionLoss
from monai.networks.nets import UNETR, DynUNet, MedNeXt, SegResNet, SwinUNETR
from monai.utils import OptionalImportError
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from vil_dense.errors import refuse_unknown
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.networks.vil_unet import ViLUNet3D
from vil_dense.medical.networks.vil_unetr import ViLUNETR3D

NETWORKS: dict[str, type[nn.Module]] = {
    "ViLUNet3D": ViLUNet3D,
    "ViLUNETR3D": ViLUNETR3D,
    "DynUNet": DynUNet,
    "SegResNet": SegResNet,
    "MedNeXt": MedNeXt,
    "SwinUNETR": SwinUNETR,
    "UNETR": UNETR,
}
"""Networks by the names in configs; those of MONAI are for comparison."""
OWN = ("ViLUNet3D", "ViLUNETR3D")


def input_channels(plan: Mapping[str, Any]) -> int:
    """Returns the number of channels that the network sees: those of the image, and the structures of a first stage."""
    return len(plan["channels"]) + len(plan.get("first_stage", ()))


def network_options(plan: Mapping[str, Any], type: str, **options: Any) -> dict[str, Any]:
    """Returns the arguments of the network `type` of `NETWORKS`.

    They are the plan's channels and labels, for ours its spacing and patch, for `UNETR` its patch, and for `ViLUNet3D`
    three scales with logits in training and its options in the plan (`network`); `options` override all of these.

    Raises:
        ValueError: the network or an option is unknown.
    """
    if type not in NETWORKS:
        raise ValueError(f"unknown network {type!r}; known: {', '.join(NETWORKS)}")
    own = dict(spatial_dims=3, in_channels=input_channels(plan), out_channels=len(LabelMap.of(plan).outputs))
    if type in OWN:
        own.update(spacing_mm=plan["spacing_mm"], patch_vox=plan["patch_vox"])
    if type == "ViLUNet3D":
        own.update(deep_supervision=3)
        own.update(plan.get("network", {}))
    if type == "UNETR":
        own.update(img_size=plan["patch_vox"])
    if type not in OWN:
        refuse_unknown(options, signature(NETWORKS[type]).parameters, f"MONAI's {type}")
    return {**own, **options}


def build_network(plan: Mapping[str, Any], type: str, **options: Any) -> nn.Module:
    """Builds the network of `network_options`.

    Raises:
        ValueError: options do not fit.
        ImportError: a network of MONAI needs a package that is not installed.
    """
    options = network_options(plan, type, **options)
    try:
        return NETWORKS[type](**options)
    except OptionalImportError as error:
        raise ImportError(f"MONAI's {type} needs a package: {str(error).strip().splitlines()[0]}") from None


def target(type: str) -> str:
    """Returns the name by which a config of MONAI (`_target_`) imports a network of `NETWORKS`."""
    return f"{'vil_dense.medical' if type in OWN else 'monai.networks.nets'}.{type}"


class AllScalesLoss(DeepSupervisionLoss):
    """Computes MONAI's `DeepSupervisionLoss` of the output of any network of `NETWORKS`: one scale, a list, a stack.

    Args:
        loss: of the logits of a scale.
        boundary, boundary_weight: a second loss, of the finest logits alone, and its weight.
    """

    def __init__(self, loss: _Loss, boundary: _Loss | None = None, boundary_weight: float = 1.0) -> None:
        super().__init__(loss)
        self.boundary, self.boundary_weight = boundary, boundary_weight

    def forward(self, input: Tensor | list[Tensor] | None, target: Tensor) -> Tensor:
        """Returns the loss of logits (see `logits_of`) and labels (B, 1, I, J, K)."""
        scales = [] if input is None else logits_of(input)
        loss: Tensor = super().forward(scales or None, target)
        return loss if self.boundary is None else loss + self.boundary_weight * self.boundary(scales[0], target)


def logits_of(output: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Returns a network's output as a list of logits, the finest first (DynUNet stacks them along axis 1)."""
    if isinstance(output, Tensor):
        return list(output.unbind(1)) if output.ndim == 6 else [output]
    return list(output)
