"""Heads of mmsegmentation on ViL with each neck: logits, loss, gradients and prediction of a tiny network."""

from pathlib import Path

import pytest
import torch
from config_files import CONFIGS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from necks import NECKS, neck

import vil_dense.mm  # noqa: F401
from vil_dense.mm.engine.checks.components import check_components, check_norms
from vil_dense.mm.engine.checks.numbers import check_numbers
from vil_dense.mm.engine.resolve.config import resolve_norm

HEADS = sorted(path for path in (CONFIGS / "_base_/models").glob("vil_*.py") if "unet3d" not in path.stem)
DIM, CLASSES, SIZE = 32, 3, (64, 64)


def tiny(path: Path, neck_name: str | None) -> Config:
    """Returns the config of a model with two blocks of 32 channels; `None` keeps its own neck."""
    cfg = Config(dict(model=Config.fromfile(path).model, train_dataloader=dict(batch_size=2)))
    cfg.model.data_preprocessor.size = SIZE
    cfg.model.backbone.update(dim=DIM, depth=2, grid=(4, 4), out_indices=(0, 0, 1, 1))
    cfg.model.test_cfg = dict(mode="whole")
    norm = dict(type="SyncBN", requires_grad=True)
    for name in ("decode_head", "auxiliary_head"):
        if head := cfg.model.get(name):
            wide = isinstance(head.in_channels, list)
            head.update(in_channels=[DIM] * 4 if wide else DIM, channels=64, num_classes=CLASSES)
            head.update({key: DIM for key in ("c1_in_channels", "embed_dims") if key in head})
            if head.get("num_convs") == 0 or "embed_dims" in head:
                head.channels = DIM
            if "num_heads" in head:
                head.num_heads = 2
    if neck_name is not None:
        cfg.model.neck = neck(neck_name, DIM, norm)
    elif cfg.model.neck:
        cfg.model.neck.embed_dim = DIM
    if cfg.model.decode_head.type == "FPNHead" and neck_name == "none":
        cfg.model.decode_head.feature_strides = [16] * 4
    resolve_norm(cfg, world_size=1, cuda=False)  # GroupNorm for two pictures
    return cfg


@pytest.mark.parametrize("neck_name", [None, *NECKS])
@pytest.mark.parametrize("path", HEADS, ids=lambda path: path.stem)
def test_head(path: Path, neck_name: str | None) -> None:
    init_default_scope("mmseg")
    cfg = tiny(path, neck_name)
    check_components(cfg)
    check_numbers(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    check_norms(model)
    pictures = torch.randn(2, 3, *SIZE)
    truth = torch.randint(0, CLASSES, (2, 1, *SIZE))
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=label), metainfo=dict(img_shape=SIZE, ori_shape=SIZE, padding_size=[0] * 4)
        )
        for label in truth
    ]
    losses = model.loss(pictures, samples)
    sum(value for key, value in losses.items() if "loss" in key).backward()
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert model.backbone.net.patch_embed.proj.weight.grad.abs().sum() > 0
    with torch.no_grad():
        predicted = model.eval().predict(pictures, samples)
    assert predicted[0].seg_logits.data.shape == (CLASSES, *SIZE)
