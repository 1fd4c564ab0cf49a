"""Scores of pictures: classes that are absent, never found or predicted in vain, ignored pixels, cross-entropy."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vil_dense.mm.evaluation.metrics import ClassIoUMetric, TopAccuracy
from vil_dense.mm.evaluation.picture_scores import cross_entropy, mean_of_classes, score_picture
from vil_dense.report import read_labels

META = dict(classes=("a", "b", "c", "d"), palette=[[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]])


def sample(truth: list, prediction: list, logits: torch.Tensor | None = None) -> dict[str, Any]:
    parts = dict(gt_sem_seg=dict(data=torch.tensor([truth])), pred_sem_seg=dict(data=torch.tensor([prediction])))
    if logits is not None:
        parts["seg_logits"] = dict(data=logits)
    return dict(parts, img_path="data/x.png")


def test_classes_that_are_absent_or_wrong() -> None:
    """Finds half of a, never b, predicts c in vain, has d in neither map; an ignored pixel counts for none."""
    score = score_picture(sample([[0, 0, 1, 255]], [[0, 2, 0, 3]]), META, 255)
    np.testing.assert_allclose(score.iou, [100 / 3, 0, 0, np.nan])
    assert mean_of_classes(score.iou) == pytest.approx(100 / 9)
    assert score.accuracy == pytest.approx(100 / 3) and score.pixels == 3 and score.size == (1, 4)
    assert read_labels(score.truth).tolist() == [[0, 0, 1, 255]]
    assert read_labels(score.prediction).tolist() == [[0, 2, 0, 3]]
    assert np.isnan(score.cross_entropy)


def test_a_picture_without_labels() -> None:
    score = score_picture(sample([[255, 255]], [[0, 1]]), META, 255)
    assert np.isnan(score.iou).all() and np.isnan(mean_of_classes(score.iou)) and np.isnan(score.accuracy)


def test_cross_entropy_is_that_of_torch() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(4, 150, 7), torch.randint(0, 4, (1, 150, 7))
    label[0, 3:9] = 255
    expected = F.cross_entropy(logits[None], label, ignore_index=255, reduction="sum").item()
    assert cross_entropy(logits, label, 255) == pytest.approx(expected, rel=1e-5)
    label[0, 0, 0] = 9  # no class of the network: left out, as in the other metrics
    assert cross_entropy(logits, label, 255) < expected


def test_cross_entropy_of_one_channel() -> None:
    logits, label = torch.tensor([[[2.0, -1.0, 0.5]]]), torch.tensor([[1, 0, 255]])
    expected = F.binary_cross_entropy_with_logits(logits[0, 0, :2], torch.tensor([1.0, 0.0]), reduction="sum").item()
    assert cross_entropy(logits, label, 255) == pytest.approx(expected)


def test_metric_stores_confusion_and_pictures() -> None:
    """Tests that the same numbers come from the areas of mmseg and from the confusion matrix of all pictures."""
    torch.manual_seed(0)
    metric = ClassIoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = META
    samples = []
    for _ in range(3):
        truth, logits = torch.randint(0, 3, (12, 20)), torch.randn(4, 12, 20)
        truth[0] = 255
        samples.append(sample(truth.tolist(), logits.argmax(0).tolist(), logits))
    metric.process({}, samples[:2])
    metric.process({}, samples[2:])
    found = metric.evaluate(3)
    confusion = metric.confusion
    assert confusion is not None and confusion.sum() == 3 * 11 * 20 and confusion[3].sum() == 0
    iou = 100 * np.diag(confusion) / (confusion.sum(0) + confusion.sum(1) - np.diag(confusion))
    np.testing.assert_allclose([row[1] for row in metric.per_class], iou)
    assert found["mIoU"] == pytest.approx(iou.mean(), abs=0.01)
    bands = sum(score.boundary for score in metric.pictures)
    assert found["mBIoU"] == pytest.approx(100 * (bands[0] / bands[1]).mean(), abs=0.01)
    losses = [
        F.cross_entropy(s["seg_logits"]["data"][None], s["gt_sem_seg"]["data"], ignore_index=255) for s in samples
    ]
    assert found["cross_entropy"] == pytest.approx(float(sum(losses) / 3), rel=1e-5)
    assert [score.path for score in metric.pictures] == ["data/x.png"] * 3


def test_a_metric_without_logits_has_no_cross_entropy() -> None:
    metric = ClassIoUMetric(iou_metrics=["mIoU"])
    metric.dataset_meta = META
    metric.process({}, [sample([[0, 1]], [[0, 1]])])
    assert "cross_entropy" not in metric.evaluate(1)


def test_confusion_of_a_classifier() -> None:
    metric = TopAccuracy()
    metric.dataset_meta = dict(classes=("a", "b", "c"))
    scores = [dict(scores=F.one_hot(torch.tensor(n), 3).float(), label=label) for label, n in ((0, 0), (0, 2), (2, 2))]
    metric.process({}, scores)
    metric.evaluate(3)
    assert metric.confusion is not None and metric.confusion.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
