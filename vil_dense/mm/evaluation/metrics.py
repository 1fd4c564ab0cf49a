"""Computes metrics and stores their values by class and by picture for the report."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric

from vil_dense.mm.evaluation.picture_scores import (
    PictureScore,
    confusion_of,
    mean_of_classes,
    percent,
    score_picture,
)


@METRICS.register_module()
class ClassIoUMetric(IoUMetric):
    """Computes mmseg's `IoUMetric`, `mBIoU`, the mean boundary IoU, and `cross_entropy`, that of the pictures' logits.

    It stores of the last evaluation:

    - `per_class`: (name, IoU in %, boundary IoU in %, accuracy in %, labelled pixels);
    - `pictures`: a `PictureScore` each;
    - `confusion`: (C, C) pixels, true classes by rows, predictions by columns.

    A class neither labelled nor predicted has IoU nan and is left out of the mean; one that is predicted but not
    labelled, or labelled and never predicted, counts with 0. `cross_entropy` is the mean over labelled pixels at the
    size of the pictures. It is left out where the network gives no logits, as with test-time augmentation.
    """

    per_class: Sequence[tuple[str, float, float, float, int]] = ()
    pictures: Sequence[PictureScore] = ()
    confusion: np.ndarray | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        before = len(self.results)
        super().process(data_batch, data_samples)
        if not self.format_only:
            scores = (score_picture(sample, self.dataset_meta, self.ignore_index) for sample in data_samples)
            self.results[before:] = zip(self.results[before:], scores, strict=True)

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
        if self.format_only:
            return super().compute_metrics(results)
        areas, self.pictures = zip(*results, strict=True)
        intersect, union, _, label = (torch.stack(part).double().sum(0).numpy() for part in zip(*areas, strict=True))
        boundary = percent(*sum(score.boundary for score in self.pictures))
        columns = percent(intersect, union), boundary, percent(intersect, label), label.astype(int)
        self.per_class = list(zip(self.dataset_meta["classes"], *(column.tolist() for column in columns), strict=True))
        self.confusion = confusion_of(self.pictures)
        metrics = super().compute_metrics(areas)
        metrics["mBIoU"] = round(mean_of_classes(boundary), 2)
        entropies = np.array([score.cross_entropy for score in self.pictures])
        if pixels := sum(score.pixels for score in self.pictures if not np.isnan(score.cross_entropy)):
            metrics["cross_entropy"] = float(np.nansum(entropies) / pixels)
        return metrics


@METRICS.register_module()
class TopAccuracy(BaseMetric):
    """Computes `top1` and `top5`: pictures in % whose class has the highest, or one of the five highest scores.

    With fewer than five classes `top5` is left out. `per_class` holds (name, top-1 in %, pictures) of the last
    evaluation; a class without pictures has nan. `confusion` holds its pictures, (C, C), true classes by rows.
    """

    per_class: Sequence[tuple[str, float, int]] = ()
    confusion: np.ndarray | None = None

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
        pairs = len(names) * labels + np.array([ranked[0] for _, ranked in results])
        self.confusion = np.bincount(pairs, minlength=len(names) ** 2).reshape(len(names), len(names))
        top = dict(top1=100 * hits[:, 0].mean())
        return dict(top, top5=100 * hits.any(1).mean()) if hits.shape[1] == 5 else top
