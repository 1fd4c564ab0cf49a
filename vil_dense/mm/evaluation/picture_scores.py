"""Scores single pictures: confusion, boundary areas, cross-entropy, and small label maps for the report.

A class counts in a picture if it is in the truth or in the prediction: one that is predicted in vain, or never
found, has IoU 0. A class that is in neither has IoU NaN and is left out of the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vil_dense.mm.evaluation.boundary import boundary_areas
from vil_dense.report import indexed_png

MOST_COLOURS = 255
"""Label maps of more classes are not stored: a PNG has 256 colours, and one is that of unlabelled pixels."""
ROWS = 64
"""Rows of logits that are compared with the labels at a time, as a copy of all may not fit the memory."""


@dataclass(frozen=True)
class PictureScore:
    """Holds what a report needs of one picture.

    Attributes:
        path: of the picture; may be empty.
        size: (H, W) in px.
        num_classes: C.
        pairs: `C * true + predicted` of each pair of classes that occurs, int64.
        counts: pixels of each pair, int64.
        boundary: intersection and union of the bands, (2, C) int64.
        cross_entropy: sum over the labelled pixels; NaN if the network gave no logits.
        truth, prediction: PNG files of small label maps; empty with more than `MOST_COLOURS` classes.
    """

    path: str
    size: tuple[int, int]
    num_classes: int
    pairs: np.ndarray
    counts: np.ndarray
    boundary: np.ndarray
    cross_entropy: float
    truth: bytes
    prediction: bytes

    @property
    def pixels(self) -> int:
        """Returns the number of labelled pixels."""
        return int(self.counts.sum())

    @property
    def accuracy(self) -> float:
        """Returns the labelled pixels in % that are right; NaN if none is labelled."""
        true, predicted = np.divmod(self.pairs, self.num_classes)
        return 100 * float(self.counts[true == predicted].sum()) / self.pixels if self.pixels else np.nan

    @property
    def iou(self) -> np.ndarray:
        """Returns the IoU of each class in %, (C) float64."""
        confusion = confusion_of([self])
        both = np.diag(confusion)
        return percent(both, confusion.sum(0) + confusion.sum(1) - both)

    @property
    def boundary_iou(self) -> np.ndarray:
        """Returns the boundary IoU of each class in %, (C) float64."""
        return percent(*self.boundary)


def percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns `part` in % of `whole`; NaN where `whole` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return 100 * part.astype(float) / whole


def mean_of_classes(values: np.ndarray) -> float:
    """Returns the mean over the classes that are not NaN; NaN if all are."""
    return float(np.nanmean(values)) if not np.isnan(values).all() else np.nan


def confusion_of(scores: Sequence[PictureScore]) -> np.ndarray:
    """Returns the confusion matrix of pictures, (C, C) int64 pixels: true classes by rows, predictions by columns."""
    classes = scores[0].num_classes
    pairs, counts = (np.concatenate([getattr(score, name) for score in scores]) for name in ("pairs", "counts"))
    # The sums are exact below 2^53 pixels.
    total = np.bincount(pairs, counts, minlength=classes**2)
    return total.astype(np.int64).reshape(classes, classes)


def score_picture(sample: Mapping[str, Any], meta: Mapping[str, Any], ignore_index: int) -> PictureScore:
    """Scores a sample of mmseg, `pred_sem_seg` against `gt_sem_seg`.

    Args:
        sample: a `SegDataSample` as a dict.
        meta: of the data set: `classes` and, if there is one, `palette`.
    """
    classes = len(meta["classes"])
    prediction, truth = (
        sample[key]["data"].reshape(sample[key]["data"].shape[-2:]).long().cpu().numpy()
        for key in ("pred_sem_seg", "gt_sem_seg")
    )
    labelled = (truth != ignore_index) & (truth >= 0) & (truth < classes)
    pairs = np.bincount(classes * truth[labelled] + prediction[labelled], minlength=1)
    seen = np.flatnonzero(pairs)
    pngs = b"", b""
    if classes <= MOST_COLOURS:
        palette = meta.get("palette") or [(255 * n // classes,) * 3 for n in range(classes)]
        pngs = indexed_png(np.where(labelled, truth, -1), palette), indexed_png(prediction, palette)
    logits = sample["seg_logits"]["data"] if "seg_logits" in sample else None
    return PictureScore(
        path=str(sample.get("img_path", "")),
        size=(truth.shape[0], truth.shape[1]),
        num_classes=classes,
        pairs=seen,
        counts=pairs[seen],
        boundary=np.stack(boundary_areas(prediction, truth, classes, ignore_index)),
        cross_entropy=np.nan if logits is None else cross_entropy(logits, sample["gt_sem_seg"]["data"], ignore_index),
        truth=pngs[0],
        prediction=pngs[1],
    )


def cross_entropy(logits: torch.Tensor, label: torch.Tensor, ignore_index: int) -> float:
    """Sums the cross-entropy over the labelled pixels of one picture.

    Args:
        logits: (C, H, W); one channel is the logit of class 1 of two.
        label: (1, H, W) or (H, W) integers; others than classes are left out.
    """
    channels, total = len(logits), 0.0
    for rows, labels in zip(logits.split(ROWS, 1), label.reshape(label.shape[-2:]).split(ROWS, 0), strict=True):
        rows, truth = rows.float(), labels.long().to(rows.device)
        counted = (truth != ignore_index) & (truth >= 0) & (truth < max(channels, 2))
        truth = truth.where(counted, 0)
        if channels == 1:
            loss = F.binary_cross_entropy_with_logits(rows[0], truth.float(), reduction="none")
        else:  # torch's own function copies the logits, and has no deterministic form for maps on a GPU
            loss = rows.logsumexp(0) - rows.gather(0, truth[None])[0]
        total += loss[counted].double().sum().item()
    return total
