"""Writes small GeoTIFFs in UTM, and builds a network for any number of bands."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from sliding_models import segmentor, small_config, write_run

from vil_dense.mm import Segmentor

rasterio = pytest.importorskip("rasterio", reason="GeoTIFF needs the extra raster")
PLACE: dict[str, Any] = dict(crs="EPSG:31982", transform=rasterio.Affine(0.35, 0, 456828.35, 0, -0.35, 6717452.69))


def write_raster(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    """Writes bands (C, H, W) with 0.35 m pixels, or as `options` of rasterio say."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = pixels.shape
    profile: dict[str, Any] = dict(driver="GTiff", count=count, height=height, width=width, dtype=pixels.dtype)
    with rasterio.open(path, "w", **{**profile, **(PLACE if "gcps" not in options else {}), **options}) as dataset:
        dataset.write(pixels)
    return path


def blocks(bands: int, height: int, width: int, most: int = 256, kind: Any = np.uint8) -> np.ndarray:
    """Returns random blocks of 10 px, (C, H, W)."""
    coarse = np.random.default_rng(0).integers(0, most, (bands, -(-height // 10), -(-width // 10)))
    return np.kron(coarse, np.ones((1, 10, 10), int))[:, :height, :width].astype(kind)


def raster_segmentor(folder: Path, test_cfg: dict, bands: int = 3, load: dict | None = None) -> Segmentor:
    """Returns a small model of `bands` channels that reads its files by `load`, and does not pad."""
    cfg: Config = small_config(test_cfg)
    cfg.model.data_preprocessor.update(test_cfg=None)
    model = segmentor(test_cfg)
    if load:
        cfg.test_dataloader.dataset.pipeline[0] = load
        cfg.model.backbone.in_channels = bands
        cfg.model.data_preprocessor = dict(type="BandPreprocessor", mean=[100.0] * bands, std=[50.0] * bands)
        embed = model.backbone.net.patch_embed.proj
        embed.weight = torch.nn.Parameter(embed.weight.detach()[:, torch.arange(bands) % 3])
    return Segmentor.load(write_run(folder, cfg, model), device="cpu")
