"""Trains ViL-T (v2) with UperNet on Pascal VOC 2012: 512 x 512 crops, batch 16, 20k steps.

Command:  python tools/train.py configs/voc2012/vil2-t_upernet_1xb16-20k_voc2012-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   the recipe of vil_upernet_ade20k.py; sizes and steps as in mmseg's configs of this set.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/voc2012.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)
train_cfg = dict(max_iters=20000, val_interval=2000)
