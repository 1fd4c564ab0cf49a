"""Trains on a few small pictures: options of the sample's config for a small network, and a config of two steps."""

import runpy
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[2]
NETWORK: dict[str, Any] = {
    "model.backbone.dim": 32,
    "model.backbone.depth": 2,
    "model.backbone.out_indices": (0, 0, 1, 1),
    "model.neck.embed_dim": 32,
    "model.decode_head.in_channels": [32] * 4,
    "model.decode_head.channels": 16,
    "model.auxiliary_head.in_channels": 32,
    "model.auxiliary_head.channels": 16,
}
"""Options of the sample's config for two blocks of 32 channels."""
CROP = "train_dataloader.dataset.pipeline.3.crop_size=(64,64)"
"""The option that goes with the config: an entry of a list can only be changed so."""
CONFIG = """
_base_ = ["{root}/configs/vil_upernet_sample.py"]
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(dim=32, depth=2, out_indices=(0, 0, 1, 1)),
    neck=dict(embed_dim=32),
    decode_head=dict(in_channels=[32] * 4, channels=16),
    auxiliary_head=dict(in_channels=32, channels=16),
)
loader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root="{data}"))
train_dataloader = dict(batch_size=2, **loader)
val_dataloader = test_dataloader = loader
train_cfg = dict(max_iters=2, val_interval=1)
default_hooks = dict(checkpoint=dict(interval=1))
"""


def write_config(folder: Path) -> Path:
    """Writes five pictures and the config below `folder`; returns the config."""
    write_sample(folder / "sample", train=4, val=1)
    config = folder / "config.py"
    config.write_text(CONFIG.format(root=ROOT, data=folder / "sample"))
    return config


def data_options(root: Path | str, splits: tuple[str, ...] = ("train", "val", "test")) -> dict[str, Any]:
    """Returns the options that read the data at `root` without loader processes."""
    own = dict(num_workers=0, persistent_workers=False) | {"dataset.data_root": str(root)}
    return {f"{split}_dataloader.{key}": value for split in splits for key, value in own.items()}


def as_words(options: Mapping[str, Any]) -> list[str]:
    """Returns options as words after `--cfg-options`."""
    return [f"{key}={value}".replace(" ", "") for key, value in options.items()]


def build_run(work_dir: Path, options: Mapping[str, Any], deterministic: bool = False) -> Any:
    """Returns the runner that tools/train.py builds of the sample's config with options."""
    args = Namespace(
        config=str(ROOT / "configs/vil_upernet_sample.py"), work_dir=str(work_dir), cfg_options=dict(options),
        launcher="none", local_rank=0, resume=False, amp=False, deterministic=deterministic, debug=False, log_to=[],
    )  # fmt: skip
    return runpy.run_path(str(ROOT / "tools/train.py"))["build"](args)
