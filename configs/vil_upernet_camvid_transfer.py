"""A small ViL + UperNet on CamVid, its backbone pretrained on crops of the same training pictures.

Pretraining: configs/vil_crops_camvid.py. Control: configs/vil_upernet_camvid_scratch.py, which differs in init_cfg.
Command:  python tools/train.py configs/vil_upernet_camvid_transfer.py --resume --cfg-options randomness.seed=0
Result:   to be measured.
"""

_base_ = ["_base_/camvid_small.py"]

model = dict(
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil_crops_camvid/epoch_8.pth")),
)
