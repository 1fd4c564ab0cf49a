"""Tests the boundary loss of volumes: its definition in mm, ignored voxels, regions, and the option of it."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from vil_dense.medical.data.plan_schema import read_plan
from vil_dense.medical.label_map import LabelMap
from vil_dense.medical.losses import REACH, BoundaryLoss
from vil_dense.mm.volumes import VolumeSegmentor

SPACING = (2.0, 0.5, 1.0)
CLASSES: dict[str, Any] = dict(labels=dict(background=0, a=1, b=4))
REGIONS: dict[str, Any] = dict(
    labels=dict(background=0, whole=[1, 4], core=4),
    class_order=["background", "whole", "core"],
    regions_class_order=[1, 4],
)


def plan(**labels: Any) -> dict[str, Any]:
    base = dict(channels=["MR"], orientation="RAS", spacing_mm=SPACING, patch_vox=(8, 8, 8))
    return dict(read_plan(dict(**base, intensity=[dict(rule="zscore")], **labels)))


@pytest.mark.parametrize("ignore", [None, 255])
@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_it_is_its_definition(labels: dict[str, Any], ignore: int | None) -> None:
    made = plan(**labels) | ({} if ignore is None else dict(ignore_label=ignore))
    known, rng = LabelMap.of(made), np.random.default_rng(0)
    volumes = rng.choice([0, 1, 4], (2, 8, 8, 8), p=[0.7, 0.2, 0.1])
    volumes[1] = 0  # neither structure
    if ignore is not None:
        volumes[0, 3:5] = 1  # so that unlabelled places would be nearer than labelled ones
        volumes[:, 5:] = ignore
    label = torch.from_numpy(known.encode(volumes).astype(np.int64))[:, None]
    logits = torch.randn(2, len(known.outputs), 8, 8, 8, requires_grad=True)
    probabilities = (logits.sigmoid() if known.regions else logits.softmax(1)).detach().numpy()
    annotated, reach, total = volumes != ignore, REACH * max(SPACING), 0.0
    for volume, labelled, p in zip(volumes, annotated, probabilities, strict=True):
        for own, name in zip(p, known.outputs, strict=True):
            inside = np.isin(volume, known.values[name])
            inner, outer = (
                distance_transform_edt(~part, sampling=SPACING) if part.any() else np.full(part.shape, 1e3)
                for part in (inside & labelled, ~inside & labelled)
            )
            distance = np.where(inside, -outer, inner).clip(-reach, reach) / reach
            total += (own * distance)[labelled].sum()
    loss = BoundaryLoss(made)(logits, label)
    expected = total / annotated.sum() / (len(known.outputs) if known.regions else 1)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    if ignore is not None:
        assert not logits.grad[:, :, 5:].any() and logits.grad[:, :, :5].any()
        assert BoundaryLoss(made)(logits, torch.zeros_like(label)) == 0, "no annotated voxel"


def test_it_is_one_option_of_a_segmentor() -> None:
    network = dict(type="ViLUNet3D", channels=(4, 8), depths=(0, 1))
    image, label = torch.randn(1, 1, 8, 8, 8), torch.randint(0, 3, (1, 1, 8, 8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = VolumeSegmentor(plan(**CLASSES), network)
    model = VolumeSegmentor(plan(**CLASSES), network, boundary_weight=0.5)
    assert model.load_state_dict(plain.state_dict()).missing_keys == [], "it has no weights of its own"
    found, alone = model(image, label, mode="loss"), plain(image, label, mode="loss")
    assert found.keys() == {"loss_regions", "loss_boundary"} and alone.keys() == {"loss"}
    torch.testing.assert_close(found["loss_regions"], alone["loss"])
    logits = model.network(image)
    logits = logits[0] if isinstance(logits, list) else logits
    torch.testing.assert_close(found["loss_boundary"], 0.5 * BoundaryLoss(plan(**CLASSES))(logits, label))
