"""Writes the config of a training of two steps on a few small pictures."""

from pathlib import Path

from vil_dense.synthetic.scenes import write_sample

ROOT = Path(__file__).parents[2]
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
