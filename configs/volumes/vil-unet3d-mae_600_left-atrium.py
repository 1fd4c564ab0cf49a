"""Trains a small ViLUNet3D on left atria, pretrained on the same volumes without labels.

Command:  python tools/train.py configs/volumes/vil-unet3d-mae_600_left-atrium.py
Weights:  a run of configs/pretrain/vil-unet3d_mae_left-atrium.py.
Source:   our own recipe; the config that it inherits is its control, from scratch.
Result:   Not run yet.
"""

_base_ = "vil-unet3d_600_left-atrium.py"

model = dict(
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil-unet3d_mae_left-atrium/iter_1200.pth"),
)
