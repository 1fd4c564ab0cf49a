"""Measures how unsure a prediction is: entropy of the mean probabilities, and how much the networks disagree.

The members are the networks of one configuration, or several configurations, each with the mean of its networks.

  entropy               of the members' mean probabilities, divided by its largest value: 0 (sure) to 1. Of regions,
                        which may overlap, the mean of their binary entropies.
  mutual_information    of several members: that entropy minus the mean of their own entropies. 0 where all agree, and
                        larger where each is sure of something else (Smith and Gal, arXiv:1803.08533).

A case is summarised by the mean of a map over the voxels of its mask.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

MEASURES = ("entropy", "mutual_information")
"""Names the maps; each is the name of their folder."""


def measure_names(members: int) -> tuple[str, ...]:
    """Returns the names of the maps that can be measured of so many members: a single one cannot disagree."""
    return MEASURES if members > 1 else MEASURES[:1]


def entropy(probabilities: Tensor, regions: bool) -> Tensor:
    """Returns the entropy of probabilities (outputs, ...), (...) from 0 to 1.

    Args:
        regions: whether each output is yes or no by itself, else the outputs are classes and sum to 1.
    """
    own = torch.special.entr(probabilities)
    if regions:
        return (own + torch.special.entr(1 - probabilities)).mean(0) / math.log(2)
    return own.sum(0) / math.log(max(len(probabilities), 2))


def uncertainty_maps(members: Sequence[Tensor], regions: bool) -> Tensor:
    """Returns the maps of `measure_names`, (maps, ...) from 0 to 1, of probabilities (outputs, ...) of each member."""
    total = entropy(torch.stack([*members]).mean(0), regions)
    if len(members) == 1:
        return total[None].clamp(0, 1)
    own = torch.stack([entropy(member, regions) for member in members]).mean(0)
    return torch.stack([total, total - own]).clamp(0, 1)  # rounding may leave -1e-8


class Members(nn.Module):
    """Runs networks side by side: (B, C, *window) -> logits of all of them, (B, networks * outputs, *window).

    The sums and the resampling that follow are linear, so the mean over the networks can be taken after them.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([network(x).float() for network in self.networks], 1)


def summarise_maps(maps: np.ndarray, mask: np.ndarray) -> dict[str, float] | None:
    """Returns the mean of each map (I, J, K, maps) over the voxels of the mask, by its name; None of an empty mask."""
    inside = mask > 0
    if not inside.any():
        return None
    return {name: float(maps[..., n][inside].mean()) for n, name in enumerate(MEASURES[: maps.shape[-1]])}
