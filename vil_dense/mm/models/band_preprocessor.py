"""Normalises pictures of any number of bands; MMEngine's preprocessors take one or three."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from mmseg.models import SegDataPreProcessor


@MODELS.register_module()
class BandPreprocessor(SegDataPreProcessor):
    """Normalises each band, and pads and stacks as `SegDataPreProcessor` does, whose other arguments it has.

    Args:
        mean, std: of each band, on the scale of the loading step.

    Raises:
        ValueError: means and deviations are not of the same number of bands, or a deviation is not above 0.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **options: Any) -> None:
        super().__init__(**options)
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f"mean and std have a value for each band, std above 0; got {mean} and {std}")
        self._enable_normalize = True
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
