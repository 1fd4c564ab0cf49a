"""Tests that a segmentor whose heads, data and metrics contradict each other is refused before the first step."""

from types import SimpleNamespace

import pytest
from mmseg.evaluation import IoUMetric
from mmseg.models import FCNHead
from torch import nn

from vil_dense.mm.datasets.checks.heads import check_heads

DATA = SimpleNamespace(metainfo=dict(classes=["a", "b", "c"]))


def network(padding: int = 255, classes: int = 3, **options: object) -> nn.Module:
    model = nn.Module()
    loss = options.pop("loss", {})
    loss = loss if "type" in loss else dict(type="CrossEntropyLoss", avg_non_ignore=True, **loss)
    shape = dict(in_channels=4, channels=4, num_convs=1, in_index=0)
    model.decode_head = FCNHead(**shape, num_classes=classes, loss_decode=loss, **options)
    model.data_preprocessor = SimpleNamespace(seg_pad_val=padding)
    return model


def test_what_fits_is_returned() -> None:
    model = network()
    assert check_heads(model, DATA, "train", [IoUMetric()]) == [model.decode_head]


@pytest.mark.parametrize(
    ("model", "metric", "named"),
    [
        (network(classes=4), IoUMetric(), "num_classes=4"),
        (network(ignore_index=0), IoUMetric(), "ignore_index of FCNHead = 0"),
        (network(padding=0), IoUMetric(), "seg_pad_val of data_preprocessor = 0"),
        (network(), IoUMetric(ignore_index=0), "ignore_index of IoUMetric = 0"),
        (network(padding=0, ignore_index=0), IoUMetric(ignore_index=0), "255"),
        (network(loss=dict(class_weight=[1.0, 2.0, 1.0])), IoUMetric(), "WeightedCrossEntropyLoss"),
        (network(loss=dict(class_weight=[1.0, 2.0, 1.0], use_sigmoid=True)), IoUMetric(), "use_sigmoid"),
        (network(loss=dict(class_weight=[1.0, 2.0])), IoUMetric(), "2 numbers for 3 classes"),
        (network(loss=dict(type="OhemCrossEntropy")), IoUMetric(), "OhemCrossEntropy.*OHEMPixelSampler"),
    ],
    ids=["classes", "head", "padding", "metric", "all 0", "class_weight", "sigmoid", "weights", "hard pixels"],
)
def test_what_contradicts_is_refused(model: nn.Module, metric: IoUMetric, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        check_heads(model, DATA, "val", [metric])
