"""Trains ViL-T (v2) with UperNet on Cityscapes: 512 x 1024 crops, batch 8, 80k steps.

Command:  python tools/train.py configs/cityscapes/vil2-t_upernet_1xb8-80k_cityscapes-512x1024.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   the recipe of vil_upernet_ade20k.py; sizes and steps as in mmseg's configs of this set.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/cityscapes.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(grid=(32, 64)),
    decode_head=dict(num_classes=19),
    auxiliary_head=dict(num_classes=19),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(341, 682)),
)
train_dataloader = dict(batch_size=8)
train_cfg = dict(max_iters=80000, val_interval=8000)
