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


@HOOKS.register_module()
class DeterministicHook(Hook):
    """Each `AdaptiveAvgPool2d` of the model, as in UperNet's and PSPNet's pyramids, becomes a `ProductPool2d`."""

    def before_run(self, runner: Runner) -> None:
        for module in runner.model.modules():
            if type(module) is nn.AdaptiveAvgPool2d:
                module.__class__ = ProductPool2d
