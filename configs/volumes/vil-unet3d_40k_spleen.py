"""Trains ViLUNet3D on MSD Task09 Spleen, fold 0.

Command:  python tools/train.py configs/volumes/vil-unet3d_40k_spleen.py
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_unet3d.py",
    "../_base_/datasets/spleen.py",
    "../_base_/schedules/adamw_volumes_40k.py",
    "../_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}})
