"""Writes configs of small volume segmentors, and their weights."""

from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from vil_dense.mm.engine.resolve.volumes import resolve_plan

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = ["{base}"]
plan = dict(
    channels={channels},
    labels=dict(background=0, organ=1),
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch_vox=(16, 16, 8),
    intensity=[dict(rule="zscore")] * {count},
)
network = dict(type="ViLUNet3D", channels=(8, 8), depths=(0, 1), deep_supervision=1)
model = dict(type="VolumeSegmentor", network=network)
"""


def write_segmentor(folder: Path, channels: int = 1) -> Path:
    """Writes the config of a segmentor of one organ into `folder`, and returns its path."""
    path = folder / f"config_{channels}.py"
    base = ROOT / "configs/_base_/volumes_runtime.py"
    names = [f"channel {number}" for number in range(channels)]
    path.write_text(CONFIG.format(base=base, channels=names, count=channels))
    return path


def write_weights(path: Path, seed: int = 0) -> Path:
    """Writes a checkpoint of a config's model as `seed` begins it, beside the config, and returns its path."""
    cfg = Config.fromfile(path)
    resolve_plan(cfg)
    torch.manual_seed(seed)
    checkpoint = path.with_suffix(f".{seed}.pth")
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta=dict(iter=4)), checkpoint)
    return checkpoint
