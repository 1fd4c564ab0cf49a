"""Trains HierViL-T with UperNet on ADE20K: 512 x 512 crops, batch 16, 160k steps.

Command:  python tools/train.py configs/ade20k/hiervil-t_upernet_1xb16-160k_ade20k-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE
Weights:  FILE is a run of configs/imagenet/hiervil-t_300e_in1k-224.py; without init_cfg from scratch.
Source:   mmseg's recipe of Swin-T with UperNet (AdamW 6e-5, weight decay 0.01, one rate for all layers, warm-up of 1500 steps, linear to zero); pyramids of its kind share it.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/hiervil_upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(drop_path=0.1))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=6e-5, weight_decay=0.01))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", eta_min=0.0, power=1.0, by_epoch=False, begin=1500),
]
