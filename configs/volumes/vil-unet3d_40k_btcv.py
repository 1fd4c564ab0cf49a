"""Trains ViLUNet3D on BTCV with MONAI's split.

Command:  python tools/train.py configs/volumes/vil-unet3d_40k_btcv.py
Small organs: ViL at 1/4 resolution, too: 13,824 tokens of a patch.
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_unet3d.py",
    "../_base_/datasets/btcv.py",
    "../_base_/schedules/adamw_volumes_40k.py",
    "../_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}}, network=dict(depths=(0, 0, 2, 4, 2)))
