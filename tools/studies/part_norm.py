"""Imitates BatchNorm on several GPUs with one device: normalises each part of a batch by its own statistics."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PartNorm(nn.BatchNorm2d):
    """Normalises each of `parts` equal parts of a training batch by its own statistics.

    `running_mean` and `running_var` follow the first part, `mean_of_all` and `var_of_all` the mean over the parts.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    mean_of_all: Tensor
    var_of_all: Tensor

    def __init__(self, channels: int, parts: int, eps: float, momentum: float) -> None:
        super().__init__(channels, eps, momentum)
        self.parts = parts
        self.register_buffer("mean_of_all", torch.zeros(channels))
        self.register_buffer("var_of_all", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        outputs, means, variances = [], [], []
        for index, part in enumerate(x.chunk(self.parts)):
            mean, var = self.running_mean.clone(), self.running_var.clone()
            outputs.append(F.batch_norm(part, mean, var, self.weight, self.bias, True, self.momentum, self.eps))
            means.append(mean)
            variances.append(var)
            if index == 0:
                first = mean, var
        # Each part's step starts from the first's statistics; the mean over parts has its own memory.
        for kept, new, old in (
            (self.mean_of_all, means, self.running_mean),
            (self.var_of_all, variances, self.running_var),
        ):
            step = torch.stack(new).mean(0) - (1 - self.momentum) * old
            kept.mul_(1 - self.momentum).add_(step)
        self.running_mean.copy_(first[0])
        self.running_var.copy_(first[1])
        return torch.cat(outputs)

    def swap(self) -> None:
        """Exchanges the first part's running statistics with the mean's."""
        for kept, other in ((self.running_mean, self.mean_of_all), (self.running_var, self.var_of_all)):
            spare = kept.clone()
            kept.copy_(other)
            other.copy_(spare)


def part_norms(model: nn.Module) -> list[PartNorm]:
    """Returns all `PartNorm` layers."""
    return [module for module in model.modules() if isinstance(module, PartNorm)]


def split_norms(model: nn.Module, parts: int, chosen: Callable[[str], bool]) -> int:
    """Replaces the BatchNorms whose name is `chosen` by `PartNorm`; returns how many."""
    norms = [(name, norm) for name, norm in model.named_modules() if type(norm) is nn.BatchNorm2d and chosen(name)]
    for name, old in norms:
        assert old.momentum is not None, "PartNorm has no cumulative mean"
        parent = model.get_submodule(name.rpartition(".")[0])
        setattr(parent, name.rpartition(".")[2], PartNorm(old.num_features, parts, old.eps, old.momentum))
    return len(norms)
