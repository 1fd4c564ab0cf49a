"""ViLUNet3D at the equal budget of the hippocampus comparison, fold 0.

Command:  python tools/train.py configs/vil_unet3d_hippocampus_small.py
Result:   Dice 0.855 (Anterior 0.866, Posterior 0.844), HD95 1.69 mm, NSD 0.912; one CPU core, float32. Per case:
          configs/results/hippocampus_small/vil.csv. The twins: to be measured, but for identity.
"""

_base_ = [
    "_base_/models/vil_unet3d_small.py",
    "_base_/datasets/hippocampus.py",
    "_base_/schedules/adamw_volumes_equal.py",
    "_base_/volumes_runtime.py",
]
