"""Trains ViL-T (v2) with a mask-classification head on ADE20K: 100 queries, 512 x 512 crops, batch 16, 160k steps.

Command:  python tools/train.py configs/ade20k/vil2-t_maskformer_1xb16-160k_ade20k-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   Mask2Former on ADE20K (arXiv 2112.01527, section 4.4): AdamW 1e-4, weight decay 0.05, poly 0.9; gradients clipped to 0.01 as in its code. The layer decay of vil_upernet_ade20k.py stands for its factor 0.1 on the backbone.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_maskformer.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

optim_wrapper = dict(optimizer=dict(lr=1e-4), clip_grad=dict(max_norm=0.01))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=0.9, by_epoch=False, begin=0)]
