"""Tests losses of mmsegmentation and ours: values against their definitions, and all of them in a head."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.models import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from refusals import raises_one_line
from scipy.ndimage import distance_transform_edt

from vil_dense.mm.engine.resolve.config import resolve_losses
from vil_dense.mm.evaluation.boundary import boundary_areas
from vil_dense.mm.models.losses import KervadecBoundaryLoss, PortableFocalLoss, WeightedCrossEntropyLoss

WEIGHTS = [1.0, 2.0, 0.5]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Returns logits (2, 3, 6, 5) and labels, some of which are ignored."""
    draw = torch.Generator().manual_seed(0)
    label = torch.randint(0, 4, (2, 6, 5), generator=draw)
    return torch.randn(2, 3, 6, 5, generator=draw), label.where(label < 3, 255)


def test_weighted_cross_entropy_is_torch_s(batch) -> None:
    logits, label = batch
    expected = F.cross_entropy(logits, label, torch.tensor(WEIGHTS), ignore_index=255)
    loss = WeightedCrossEntropyLoss(WEIGHTS, loss_weight=0.4)
    torch.testing.assert_close(loss(logits, label), 0.4 * expected)
    kept = torch.ones(label.shape)
    torch.testing.assert_close(loss(logits, label, weight=kept), 0.4 * expected)
    assert loss(logits, label, reduction_override="none").shape == label.shape
    assert loss(logits, torch.full_like(label, 255)) == 0, "no labelled pixel"


def test_focal_loss_is_its_definition(batch) -> None:
    """Tests sums over pixels and classes in the formula of arXiv 1708.02002; without `gamma` it is half the binary
    cross entropy."""
    logits, label = batch
    p, valid = logits.sigmoid(), (label != 255)[:, None]
    truth = F.one_hot(label.where(label != 255, 0), 3).movedim(-1, 1) == 1
    right = torch.where(truth, p, 1 - p)
    alpha = torch.where(truth, 0.25, 0.75)
    expected = (-alpha * (1 - right) ** 2 * right.log() * valid).mean()
    loss = PortableFocalLoss(alpha=0.25)
    torch.testing.assert_close(loss(logits, label), expected)
    assert loss(logits, label, reduction_override="none").shape == logits.shape


@pytest.mark.parametrize("classes", [1, 3])
def test_boundary_loss_is_its_definition(classes: int, batch) -> None:
    """Tests the sum of probability x distance of scipy, and its gradient by finite differences."""
    logits, label = batch[0][:, :classes], batch[1].clamp(max=classes) if classes > 1 else batch[1] % 2
    label = label.where(batch[1] != 255, 255)
    label[1, label[1] == 1] = 0  # a class that one picture does not have
    loss = KervadecBoundaryLoss(max_distance_px=3, loss_weight=2.0)
    whole = logits if classes > 1 else torch.cat([0 * logits, logits], 1)
    known, expected = label != 255, 0.0
    for picture, p in zip(label, whole.softmax(1), strict=True):
        for index in range(len(p)):
            inside, outside = (picture == index).numpy(), ((picture != index) & (picture != 255)).numpy()
            inner, outer = (distance_transform_edt(~part) if part.any() else 99 for part in (inside, outside))
            distance = np.clip(np.where(inside, -1.0 * outer, inner), -3, 3) / 3
            expected += (p[index] * torch.from_numpy(distance))[picture != 255].sum()
    torch.testing.assert_close(loss(logits, label), 2 * (expected / known.sum()).float())
    each = loss(logits, label, reduction_override="none")
    torch.testing.assert_close(each.sum() / known.sum(), loss(logits, label))
    assert not each[~known].any()
    logits = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits, label), logits)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ends = [loss(logits + step * direction, label) for step in (1e-2, -1e-2)]
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-2, (gradient * direction).sum(), rtol=1e-3, atol=1e-5)
    assert loss(logits, torch.full_like(label, 255)) == 0, "no labelled pixel"


def test_the_boundary_loss_alone_moves_a_boundary_to_its_place() -> None:
    """Tests that a disc whose centre and radius are learned finds the disc of the label, by its boundary IoU."""
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")

    def disc(centre: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
        inner = radius - ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 + 1e-3).sqrt()
        return torch.stack([torch.zeros_like(inner), inner])[None]

    def boundary_iou(logits: torch.Tensor) -> float:
        both, either = boundary_areas(logits.argmax(1)[0].numpy(), label[0].numpy(), 2, 255)
        return float(both[1] / either[1])

    label = disc(torch.tensor([22.0, 26.0]), torch.tensor(11.0)).argmax(1)
    centre, radius = torch.tensor([30.0, 18.0], requires_grad=True), torch.tensor(6.0, requires_grad=True)
    optimizer = torch.optim.Adam([centre, radius], lr=0.5)
    before = boundary_iou(disc(centre, radius).detach())
    for _ in range(60):
        optimizer.zero_grad()
        KervadecBoundaryLoss()(disc(centre, radius), label).backward()
        optimizer.step()
    assert before < 0.1 and boundary_iou(disc(centre, radius).detach()) > 0.6
    torch.testing.assert_close(centre.detach(), torch.tensor([22.0, 26.0]), atol=0.3, rtol=0)


LOSSES = {
    "weighted": dict(type="CrossEntropyLoss", class_weight=WEIGHTS, avg_non_ignore=True),
    "sigmoid": dict(type="CrossEntropyLoss", use_sigmoid=True, avg_non_ignore=True),
    "focal": dict(type="FocalLoss"),
    "dice": dict(type="DiceLoss", use_sigmoid=False),
    "tversky": dict(type="TverskyLoss"),
    "lovasz": dict(type="LovaszLoss", per_image=True),
    "boundary": [dict(type="CrossEntropyLoss"), dict(type="KervadecBoundaryLoss", loss_weight=0.5)],
    "two": [dict(type="CrossEntropyLoss"), dict(type="DiceLoss", use_sigmoid=False)],
    "hard pixels": dict(type="CrossEntropyLoss", class_weight=WEIGHTS),
}


@pytest.mark.filterwarnings("ignore:``build_pixel_sampler`` would be deprecated soon")  # by mmseg's own heads
@pytest.mark.parametrize("name", LOSSES)
def test_a_head_trains_with_it(name: str, batch) -> None:
    _, label = batch
    sampler = dict(type="OHEMPixelSampler", thresh=0.7, min_kept=3) if name == "hard pixels" else None
    cfg = Config(
        dict(
            model=dict(
                type="FCNHead", in_channels=4, channels=4, num_convs=1, num_classes=3, sampler=sampler,
                concat_input=False, norm_cfg=dict(type="BN"), loss_decode=LOSSES[name],
            )
        )
    )  # fmt: skip
    resolve_losses(cfg, cuda=False)
    head: FCNHead = MODELS.build(cfg.model)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=part[None])) for part in label]
    losses = head.loss_by_feat(head([torch.randn(2, 4, 6, 5)]), samples)
    total = sum(value for key, value in losses.items() if key.startswith("loss"))
    total.backward()
    assert torch.isfinite(total) and head.conv_seg.weight.grad.abs().sum() > 0


def test_only_what_mmseg_cannot_compute_is_replaced() -> None:
    def resolved(cuda: bool, **loss: object) -> tuple[str, str]:
        cfg = Config(dict(model=dict(decode_head=dict(loss_decode=loss))))
        line = resolve_losses(cfg, cuda)
        return cfg.model.decode_head.loss_decode.type, line

    assert resolved(True, type="FocalLoss") == ("FocalLoss", "")
    assert resolved(False, type="CrossEntropyLoss", avg_non_ignore=True) == ("CrossEntropyLoss", "")
    kind, line = resolved(True, type="CrossEntropyLoss", class_weight=WEIGHTS, avg_non_ignore=True)
    assert kind in line and kind == "WeightedCrossEntropyLoss"


def test_a_distance_that_cannot_be_is_refused() -> None:
    with raises_one_line(ValueError, "max_distance_px", "0"):
        KervadecBoundaryLoss(max_distance_px=0)
