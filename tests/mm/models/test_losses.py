"""Losses of mmsegmentation and ours: values against their definitions, and all of them in a head."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models import FCNHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from vil_dense.mm.engine.resolve_config import resolve_losses
from vil_dense.mm.models.losses import PortableFocalLoss, WeightedCrossEntropyLoss

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


LOSSES = {
    "weighted": dict(type="CrossEntropyLoss", class_weight=WEIGHTS, avg_non_ignore=True),
    "sigmoid": dict(type="CrossEntropyLoss", use_sigmoid=True, avg_non_ignore=True),
    "focal": dict(type="FocalLoss"),
    "dice": dict(type="DiceLoss", use_sigmoid=False),
    "tversky": dict(type="TverskyLoss"),
    "lovasz": dict(type="LovaszLoss", per_image=True),
    "two": [dict(type="CrossEntropyLoss"), dict(type="DiceLoss", use_sigmoid=False)],
    "hard pixels": dict(type="CrossEntropyLoss", class_weight=WEIGHTS),
}


@pytest.mark.filterwarnings("ignore:``build_pixel_sampler`` would be deprecated soon")  # by mmseg's own heads
@pytest.mark.parametrize("name", LOSSES)
def test_a_head_trains_with_it(name: str, batch) -> None:
    init_default_scope("mmseg")
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
