"""Trains ViL-T (v2) with UperNet on Pascal Context, 60 classes: 480 x 480 crops, batch 16, 80k steps.

Command:  python tools/train.py configs/pascal_context/vil2-t_upernet_1xb16-80k_pascal-context-480x480.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   the recipe of vil_upernet_ade20k.py; sizes and steps as in mmseg's configs of this set.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/pascal_context.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(grid=(30, 30)),
    decode_head=dict(num_classes=60),
    auxiliary_head=dict(num_classes=60),
    test_cfg=dict(crop_size=_base_.crop_size, stride=(320, 320)),
)
train_cfg = dict(max_iters=80000, val_interval=8000)
