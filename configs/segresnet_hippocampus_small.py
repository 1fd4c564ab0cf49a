"""MONAI's SegResNet.

Command:  python tools/train.py configs/segresnet_hippocampus_small.py
Twin:     configs/vil_unet3d_hippocampus_small.py: same trainer, patches, steps and seed.
Result:   to be measured.
"""

_base_ = [
    "_base_/models/vil_unet3d_small.py",
    "_base_/datasets/hippocampus.py",
    "_base_/schedules/adamw_volumes_equal.py",
    "_base_/volumes_runtime.py",
]

model = dict(network=dict(_delete_=True, type="SegResNet", init_filters=8))
