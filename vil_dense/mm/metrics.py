"""mmseg's IoU metric, with the numbers of each class kept for the report."""

from typing import ClassVar

import numpy as np
import torch
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """`IoUMetric` whose `per_class` holds (name, IoU in %, accuracy in %, labelled pixels) of the last evaluation.

    A class that is neither labelled nor predicted has IoU nan and does not enter the mean.
    """

    per_class: ClassVar[list[tuple[str, float, float, int]]] = []

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not self.format_only:
            intersect, union, _, label = (
                torch.stack(areas).double().sum(0).numpy() for areas in zip(*results, strict=True)
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                rows = zip(100 * intersect / union, 100 * intersect / label, label.astype(int), strict=True)
            names = self.dataset_meta["classes"]
            self.per_class = [(name, *map(float, row[:2]), int(row[2])) for name, row in zip(names, rows, strict=True)]
        return super().compute_metrics(results)
