"""Replaces operations that torch cannot run deterministically on a GPU, for `--deterministic`."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn


class ProductPool2d(nn.AdaptiveAvgPool2d):
    """Pools averages by two matrix products, (B, C, H, W) to (B, C, *output_size).

    Torch's own backward adds in arbitrary order on a GPU and raises with `use_deterministic_algorithms`. An exported
    graph of this class takes maps of any size, where one of torch's class does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        size: Any = self.output_size
        rows, columns = size if isinstance(size, tuple) else (size, size)
        height, width = x.shape[-2:]
        return _means(rows or height, height, x) @ x @ _means(columns or width, width, x).mT


def _means(bins: int, length: int, like: Tensor) -> Tensor:
    """Returns the weight of each position of an axis in each bin, (bins, length), with dtype and device of `like`.

    Bin i averages the positions from floor(i * length / bins), as torch defines them.
    """
    index, place = torch.arange(bins, device=like.device)[:, None], torch.arange(length, device=like.device)
    first, end = index * length // bins, ((index + 1) * length + bins - 1) // bins
    return ((place >= first) & (place < end)).to(like.dtype) / (end - first)


class SummedCrossEntropy(nn.CrossEntropyLoss):
    """Averages the cross entropies of single pixels; torch's own mean raises on a GPU in deterministic mode."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point() or self.weight is not None or self.reduction != "mean":
            return super().forward(input, target)
        single = F.cross_entropy(
            input, target, reduction="none", ignore_index=self.ignore_index, label_smoothing=self.label_smoothing
        )
        return single.sum() / (target != self.ignore_index).sum()


REPLACEMENTS: dict[type[nn.Module], type[nn.Module]] = {
    nn.AdaptiveAvgPool2d: ProductPool2d,
    nn.CrossEntropyLoss: SummedCrossEntropy,
}


@HOOKS.register_module()
class DeterministicHook(Hook):
    """Replaces the pooling of UperNet's and PSPNet's pyramids and the cross entropy of volumes by the forms above."""

    def before_run(self, runner: Runner) -> None:
        for module in runner.model.modules():
            module.__class__ = REPLACEMENTS.get(type(module), type(module))
