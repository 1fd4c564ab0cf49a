"""Trains ViLUNet3D on ACDC, fold 0.

Command:  python tools/train.py configs/volumes/vil-unet3d_40k_acdc.py
Slices are 10 mm: two scales halve the plane alone.
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_unet3d.py",
    "../_base_/datasets/acdc.py",
    "../_base_/schedules/adamw_volumes_40k.py",
    "../_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}})
