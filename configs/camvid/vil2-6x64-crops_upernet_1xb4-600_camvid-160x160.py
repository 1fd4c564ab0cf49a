"""Trains a small ViL with UperNet on CamVid, its backbone pretrained on crops of the same training pictures.

Command:  python tools/train.py configs/camvid/vil2-6x64-crops_upernet_1xb4-600_camvid-160x160.py --resume --cfg-options randomness.seed=0
Weights:  a run of configs/camvid/vil2-6x64_8e_camvid-crops-96.py.
Source:   our own recipe; the config that it inherits is its control, from scratch.
Result:   seeds 0, 1, 2: mIoU 20.65, 20.84, 19.82 after 600 steps, from scratch 19.36, 19.99, 19.88; after 100 steps
          15.8 and 12.3 on average (float32, one CPU core, 4 minutes a run).
          Files: configs/results/vil2-6x64-crops_upernet_1xb4-600_camvid-160x160.
"""

_base_ = "./vil2-6x64_upernet_1xb4-600_camvid-160x160.py"

model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil2-6x64_8e_camvid-crops-96/epoch_8.pth")),
)
