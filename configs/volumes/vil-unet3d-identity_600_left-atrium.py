"""Trains the control without sequence blocks on left atria at 2 mm: 600 steps of two patches.

Command:  python tools/train.py configs/volumes/vil-unet3d-identity_600_left-atrium.py
Source:   our own comparison; all parts but the blocks are those of its twin.
Twin:     configs/volumes/vil-unet3d_600_left-atrium.py: same trainer, patches, steps and seed.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_unet3d_small.py",
    "../_base_/datasets/left_atrium.py",
    "../_base_/schedules/adamw_volumes.py",
    "../_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}}, network=dict(block="identity"))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=200))
