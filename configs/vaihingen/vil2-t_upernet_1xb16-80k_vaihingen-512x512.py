"""Trains ViL-T (v2) with UperNet on ISPRS Vaihingen: 512 x 512 crops, batch 16, 80k steps.

Command:  python tools/train.py configs/vaihingen/vil2-t_upernet_1xb16-80k_vaihingen-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   the recipe of vil_upernet_ade20k.py; sizes and steps as in mmseg's configs of this set.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/vaihingen.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    decode_head=dict(num_classes=6),
    auxiliary_head=dict(num_classes=6),
)
train_cfg = dict(max_iters=80000, val_interval=8000)
