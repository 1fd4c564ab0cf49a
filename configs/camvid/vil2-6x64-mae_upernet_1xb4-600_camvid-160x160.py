"""Trains a small ViL with UperNet on CamVid, its backbone pretrained without labels on the pictures of CamVid.

Command:  python tools/train.py configs/camvid/vil2-6x64-mae_upernet_1xb4-600_camvid-160x160.py
Weights:  a run of configs/pretrain/vil2-6x64_mae_camvid.py.
Source:   our own recipe; the config that it inherits is its control, from scratch.
Result:   mean of three seeds: mIoU 19.87 with all labels and 22.06 with 10 % of them; from scratch 19.16 and 19.34 (float32,
          one CPU core, 3 minutes a run). Per run and picture: configs/results/camvid_few_labels.
"""

_base_ = "./vil2-6x64_upernet_1xb4-600_camvid-160x160.py"

model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil2-6x64_mae_camvid/iter_1500.pth")),
)
