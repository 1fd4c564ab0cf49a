"""Starts the output layers of a volume network at the frequencies of the classes or regions."""

from typing import Any

import numpy as np
from mmengine.registry import HOOKS
from torch import Tensor

from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.networks.volume_network import VolumeNetwork
from vil_dense.mm.engine.hooks.class_prior import ClassPriorHook
from vil_dense.mm.volumes.segmentor import VolumeSegmentor


@HOOKS.register_module()
class VolumeClassPriorHook(ClassPriorHook):
    """Does what `ClassPriorHook` does for a `VolumeSegmentor`, at each scale with logits.

    The frequencies are those in patches, in which the sampling makes structures more frequent than in volumes. A
    network that `model.init_cfg` loads has new output layers, which are set. Networks of MONAI are left as they are.

    Args:
        samples: see `ClassPriorHook`; few, as each one may read a large file.
    """

    def __init__(self, samples: int = 16) -> None:
        super().__init__(samples)

    def biases(self, model: Any) -> list[Tensor]:
        if not isinstance(model, VolumeSegmentor) or not isinstance(model.network, VolumeNetwork):
            return []
        layers: Any = model.network.decoder.heads
        return [layer.conv.conv.bias for layer in layers]

    def counts(self, model: Any, sample: dict[str, Any]) -> np.ndarray:
        """Returns the number of voxels of each group of label values (G,), see `LabelMap.groups`."""
        labels = LabelMap.of(model.plan)
        group = sample["label"].numpy().ravel() - labels.first_group
        return np.bincount(group[group >= 0], minlength=len(labels.groups))

    def logits(self, model: Any, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = LabelMap.of(model.plan)
        fractions = counts @ labels.membership / counts.sum()
        return np.log(fractions / (1 - fractions) if labels.regions else fractions), fractions
