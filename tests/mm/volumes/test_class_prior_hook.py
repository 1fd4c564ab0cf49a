"""Tests that the output layers of a volume network start at the frequencies of classes and of regions."""

import logging
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vil_dense.mm.volumes import VolumeClassPriorHook, VolumeSegmentor

CLASSES = dict(labels=dict(background=0, one=1, two=2))
IGNORE = dict(**CLASSES, ignore_label=3)
REGIONS = dict(
    labels=dict(background=0, whole=[1, 2], core=2),
    class_order=["background", "whole", "core"],
    regions_class_order=[1, 2],
)


def segmentor(labels: dict[str, Any], **network: Any) -> VolumeSegmentor:
    """Builds a segmentor of patches of 8 voxels a side."""
    plan = dict(
        channels=["MR"],
        orientation="RAS",
        spacing_mm=(1.0, 1.0, 1.0),
        patch_vox=(8, 8, 8),
        intensity=[dict(rule="zscore")],
        **labels,
    )
    return VolumeSegmentor(plan, network)


def train_from(model: VolumeSegmentor, labels: Sequence[Tensor], iter: int = 0, load_from: str | None = None) -> None:
    """Runs the hook for a data set of labels (1, I, J, K)."""
    dataset = [dict(label=label) for label in labels]
    runner = SimpleNamespace(
        model=model,
        iter=iter,
        seed=0,
        _load_from=load_from,
        train_dataloader=SimpleNamespace(dataset=dataset),
        logger=logging.getLogger(__name__),
    )
    VolumeClassPriorHook(samples=2).before_train(runner)


@pytest.mark.parametrize(
    ("labels", "voxels", "expected"),
    [
        # a label of 98 voxels, and one for each class beside them
        (CLASSES, [90, 6, 1], [91 / 100, 7 / 100, 2 / 100]),
        (IGNORE, [500, 90, 6, 1], [91 / 100, 7 / 100, 2 / 100]),  # the first are not annotated
        (REGIONS, [90, 6, 1], [9 / 100, 2 / 100]),
    ],
    ids=["classes", "ignore", "regions"],
)
def test_probabilities_start_at_the_frequencies(
    labels: dict[str, Any], voxels: Sequence[int], expected: Sequence[float]
) -> None:
    """Checks the probabilities where all features are 0, at each scale with logits."""
    model = segmentor(labels, type="ViLUNet3D", channels=(8, 8, 8), depths=(0, 0, 1), deep_supervision=2)
    label = torch.from_numpy(np.repeat(np.arange(len(voxels)), voxels)).reshape(1, -1, 1, 1)
    train_from(model, [label[:, :50], torch.zeros(1, 0, 1, 1, dtype=torch.int64), label[:, 50:]])
    # of three samples two are counted, the first and the last
    heads = model.network.decoder.heads
    assert len(heads) == 2
    for head in heads:
        bias = head.conv.conv.bias
        found = bias.sigmoid() if labels is REGIONS else bias.softmax(0)
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-5)


def test_trained_layers_and_other_networks_stay() -> None:
    """Checks a resumed run, a run with `load_from`, and a network of MONAI."""
    label = torch.zeros(1, 4, 4, 4, dtype=torch.int64)
    options = dict(filters=[8] * 3, kernel_size=[3] * 3, strides=[1, 2, 2], upsample_kernel_size=[2, 2])
    for model, start in (
        (segmentor(CLASSES, type="ViLUNet3D", channels=(8, 8), depths=(0, 1)), dict(iter=1)),
        (segmentor(CLASSES, type="ViLUNet3D", channels=(8, 8), depths=(0, 1)), dict(load_from="weights.pth")),
        (segmentor(CLASSES, type="DynUNet", **options), {}),
    ):
        before = {name: x.clone() for name, x in model.state_dict().items()}
        train_from(model, [label], **start)
        torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
