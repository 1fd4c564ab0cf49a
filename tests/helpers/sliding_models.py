"""Builds small segmentors, whole and in windows, and a picture for them."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmseg.datasets import ADE20KDataset
from mmseg.models.segmentors import EncoderDecoder
from necks import neck as make_neck
from torch import Tensor

from vil_dense.mm.inference import sliding_window, tiled_upernet

ROOT = Path(__file__).parents[2]
WHOLE = dict(mode="whole")


@pytest.fixture(autouse=True)
def narrow_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes bands of few rows, in small pictures too, in the modules that import this fixture."""
    monkeypatch.setattr(sliding_window, "BAND_BYTES", 20_000)
    monkeypatch.setattr(tiled_upernet, "BAND_BYTES", 100_000)


def slide(window: tuple[int, int], stride: tuple[int, int]) -> dict:
    return dict(mode="slide", crop_size=window, stride=stride)


def small_config(test_cfg: dict, *, neck: str = "deconv", norm: str = "BN", **head: object) -> Config:
    """Returns the config of ADE20K with few channels, two blocks and five classes, which label files have as 4 to 8."""
    init_default_scope("mmseg")
    cfg = Config.fromfile(ROOT / "configs/vil_upernet_ade20k.py")
    cfg.model.backbone.update(dim=32, depth=2, out_indices=(0, 0, 1, 1), grid=(4, 4))
    cfg.model.auxiliary_head, cfg.model.test_cfg = None, test_cfg
    norm_cfg = dict(type=norm, num_groups=4) if norm == "GN" else dict(type=norm)
    cfg.test_dataloader.dataset.metainfo = dict(classes=list(ADE20KDataset.METAINFO["classes"][3:8]))
    cfg.model.neck = make_neck(neck, 32, norm_cfg)
    cfg.model.decode_head.update(in_channels=[32] * 4, channels=16, num_classes=5, norm_cfg=norm_cfg, **head)
    return cfg


def segmentor(test_cfg: dict, **options: object) -> EncoderDecoder:
    """Returns the model of `small_config` in float64, with norms that do something."""
    cfg = small_config(test_cfg, **options)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).double().eval()
    for name, x in model.state_dict().items():
        if "running" in name or ".bn." in name or "decode_head.conv_seg" in name:
            x.copy_(torch.rand_like(x, dtype=torch.float64) + 0.5 if x.is_floating_point() else x)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    torch.nn.init.normal_(model.decode_head.conv_seg.bias, std=0.1)
    return model


def write_run(folder: Path, cfg: Config, model: torch.nn.Module, name: str = "iter_4.pth") -> Path:
    """Writes a work folder with config and checkpoint, as a run leaves it; the sizes of images are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [step for step in steps if step["type"] != "Resize"]
    cfg.dump(folder / "config.py")
    torch.save(dict(state_dict=model.float().state_dict(), meta=dict(iter=4)), folder / name)
    (folder / "last_checkpoint").write_text(str(folder / name))
    return folder


def picture(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, 3, -(-height // 8), -(-width // 8), generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
