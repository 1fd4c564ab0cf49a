"""ViLUNETR3D, all its blocks on tokens at /4.

Command:  python tools/train.py configs/vil_unetr3d_hippocampus_small.py
Twin:     configs/vil_unet3d_hippocampus_small.py: same trainer, patches, steps and seed.
Result:   to be measured.
"""

_base_ = [
    "_base_/models/vil_unet3d_small.py",
    "_base_/datasets/hippocampus.py",
    "_base_/schedules/adamw_volumes_equal.py",
    "_base_/volumes_runtime.py",
]

model = dict(network=dict(_delete_=True, type="ViLUNETR3D", channels=(8, 24), dim=64, depth=8, deep_supervision=2))
