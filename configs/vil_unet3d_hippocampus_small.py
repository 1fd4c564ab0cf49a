"""ViLUNet3D at the equal budget of the hippocampus comparison, fold 0.

Command:  python tools/train.py configs/vil_unet3d_hippocampus_small.py
Result:   to be measured.
"""

_base_ = [
    "_base_/models/vil_unet3d_small.py",
    "_base_/datasets/hippocampus.py",
    "_base_/schedules/adamw_volumes_500.py",
    "_base_/volumes_runtime.py",
]
