"""Trains a small ViLUNet3D on left atria, pretrained on the same volumes without labels.

Command:  python tools/train.py configs/volumes/vil-unet3d-mae_600_left-atrium.py
Weights:  a run of configs/pretrain/vil-unet3d_mae_left-atrium.py.
Source:   our own recipe; the config that it inherits is its control, from scratch.
Result:   20 test cases, mean of three seeds: Dice 0.884 with all 80 labelled cases, and with 4, 8 and 16 of them 0.816,
          0.840 and 0.867: no gain over random weights (0.885, and 0.805, 0.844 and 0.869; p 0.19 or more). 7 minutes
          of one CPU core (float32). Per case: configs/results/left_atrium_few_labels.
"""

_base_ = "vil-unet3d_600_left-atrium.py"

model = dict(
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil-unet3d_mae_left-atrium/iter_1200.pth"),
)
