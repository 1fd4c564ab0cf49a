"""Normalises the intensities of a channel by one of several rules, which the plan names."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def _zscore(x: Tensor, nonzero: bool = False) -> Tensor:
    """Shifts and scales to mean 0 and deviation 1; with `nonzero` only the voxels that are not 0."""
    inside = x != 0 if nonzero else torch.ones_like(x, dtype=torch.bool)
    values = x[inside]
    if not len(values):
        return x
    return torch.where(inside, (x - values.mean()) / values.std(correction=0).clamp_min(1e-8), 0.0)


def _ct(x: Tensor, low: float, high: float, mean: float, std: float) -> Tensor:
    """Clips to [low, high] HU, then shifts and scales by mean and deviation of the data set's foreground."""
    return (x.clamp(low, high) - mean) / std


def _range(x: Tensor, low: float, high: float) -> Tensor:
    """Maps [low, high] onto [0, 1] and clips."""
    return ((x - low) / (high - low)).clamp(0, 1)


INTENSITY: dict[str, Callable[..., Tensor]] = {"zscore": _zscore, "ct": _ct, "range": _range}
"""Functions of a float32 volume of one channel; the options beside `rule` are passed to them."""


def normalise(image: Tensor, intensity: Sequence[Mapping[str, Any]]) -> Tensor:
    """Normalises each channel of (C, I, J, K), of any real dtype, by its rule; returns float32."""
    channels = []
    for channel, options in zip(image.float(), intensity, strict=True):
        options = dict(options)
        channels.append(INTENSITY[options.pop("rule")](channel, **options))
    return torch.stack(channels)
