"""Computes metrics and stores their values for each class for the report: IoU of label maps, accuracy of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """Computes mmseg's `IoUMetric` and stores (name, IoU in %, accuracy in %, labelled pixels) in `per_class`.

    `per_class` is that of the last evaluation. A class neither labelled nor predicted has IoU nan and is left out of
    the mean.
    """

    per_class: Sequence[tuple[str, float, float, int]] = ()

    @staticmethod
    def intersect_and_union(
        pred_label: torch.Tensor, label: torch.Tensor, num_classes: int, ignore_index: int
    ) -> tuple[torch.Tensor, ...]:
        """Counts the pixels of each class: intersection, union, prediction and label, (num_classes) float64 each.

        Counts are integers: mmseg's histogram is not deterministic on a GPU, and float32 is exact only to 2^24 pixels.
        """
        labelled = label != ignore_index
        pred_label, label = pred_label[labelled].long(), label[labelled].long()
        both, predicted, true = (
            torch.bincount(x, minlength=num_classes)[:num_classes].double().cpu()
            for x in (pred_label[pred_label == label], pred_label, label)
        )
        return both, predicted + true - both, predicted, true

    def compute_metrics(self, results: list) -> dict[str, float]:
        if not self.format_only:
            intersect, union, _, label = (
                torch.stack(areas).double().sum(0).numpy() for areas in zip(*results, strict=True)
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                rows = zip(100 * intersect / union, 100 * intersect / label, label.astype(int), strict=True)
            names = self.dataset_meta["classes"]
            self.per_class = [
                (name, float(iou), float(accuracy), int(pixels))
                for name, (iou, accuracy, pixels) in zip(names, rows, strict=True)
            ]
        return super().compute_metrics(results)


@METRICS.register_module()
class TopAccuracy(BaseMetric):
    """Computes `top1` and `top5`: pictures in % whose class has the highest, or one of the five highest scores.

    With fewer than five classes `top5` is left out. `per_class` holds (name, top-1 in %, pictures) of the last
    evaluation; a class without pictures has nan.
    """

    per_class: Sequence[tuple[str, float, int]] = ()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        scores = torch.stack([sample["scores"] for sample in data_samples])
        ranked = scores.topk(min(5, scores.shape[1])).indices.tolist()  # one copy from the GPU for a batch
        self.results += zip((int(sample["label"]) for sample in data_samples), ranked, strict=True)

    def compute_metrics(self, results: list) -> dict[str, float]:
        labels = np.array([label for label, _ in results])
        hits = np.array([ranked for _, ranked in results]) == labels[:, None]
        names = self.dataset_meta["classes"]
        counts = np.bincount(labels, minlength=len(names))
        with np.errstate(invalid="ignore"):
            shares = 100 * np.bincount(labels, hits[:, 0], len(names)) / counts
        self.per_class = list(zip(names, shares.tolist(), counts.tolist(), strict=True))
        top = dict(top1=100 * hits[:, 0].mean())
        return dict(top, top5=100 * hits.any(1).mean()) if hits.shape[1] == 5 else top
