"""Trains a small ViLUNet3D on left atria, pretrained on the same volumes without labels.

Command:  python tools/train.py configs/volumes/vil-unet3d-mae_600_left-atrium.py
Weights:  a run of configs/pretrain/vil-unet3d_mae_left-atrium.py.
Source:   our own recipe; the config that it inherits is its control, from scratch.
Result:   20 test cases, three seeds: Dice 0.816, 0.840, 0.867, 0.884 with 4, 8, 16, 80 labelled cases; no gain over
          random weights (0.805, 0.844, 0.869, 0.885; p 0.45, 0.19, 0.25, 0.45). 7 minutes of one CPU core (float32).
          Per case: configs/results/left_atrium_few_labels.
"""

_base_ = "vil-unet3d_600_left-atrium.py"

model = dict(
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil-unet3d_mae_left-atrium/iter_1200.pth"),
)
