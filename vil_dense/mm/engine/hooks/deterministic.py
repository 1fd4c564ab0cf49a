"""`--deterministic`, where torch has no operation that gives the same numbers in every run."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn


class ProductPool2d(nn.AdaptiveAvgPool2d):
    """Adaptive average pooling as two matrix products, (B, C, H, W) to (B, C, *output_size).

    The backward of torch's own adds up in any order on a GPU, so with `use_deterministic_algorithms` it raises.
    """

    def forward(self, x: Tensor) -> Tensor:
        size: Any = self.output_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        height, width = x.shape[-2:]
        return averages(height, rows or height, x) @ x @ averages(width, columns or width, x).mT


def averages(size: int, bins: int, like: Tensor) -> Tensor:
    """What each bin of an axis takes of each place, (bins, size), in the dtype and on the device of `like`."""
    eye = torch.eye(size, dtype=like.dtype, device=like.device)
    return F.adaptive_avg_pool1d(eye[None], bins)[0].T


class SummedCrossEntropy(nn.CrossEntropyLoss):
    """The mean of a cross entropy over places, taken of the single ones: torch's own mean raises on a GPU as well."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point() or self.weight is not None or self.reduction != "mean":
            return super().forward(input, target)
        single = F.cross_entropy(
            input, target, reduction="none", ignore_index=self.ignore_index, label_smoothing=self.label_smoothing
        )
        return single.sum() / (target != self.ignore_index).sum()


INSTEAD: dict[type[nn.Module], type[nn.Module]] = {
    nn.AdaptiveAvgPool2d: ProductPool2d,
    nn.CrossEntropyLoss: SummedCrossEntropy,
}


@HOOKS.register_module()
class DeterministicHook(Hook):
    """Pooling as in UperNet's and PSPNet's pyramids and the cross entropy of volumes take the forms above."""

    def before_run(self, runner: Runner) -> None:
        for module in runner.model.modules():
            module.__class__ = INSTEAD.get(type(module), type(module))
