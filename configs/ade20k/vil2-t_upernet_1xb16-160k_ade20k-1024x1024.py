"""Trains ViL-T (v2) with UperNet on ADE20K at twice the resolution: 1024 x 1024 crops, 4096 tokens, 160k steps.

Command:  python tools/train.py configs/ade20k/vil2-t_upernet_1xb16-160k_ade20k-1024x1024.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   our own recipe: ViL's cost grows with the number of tokens, a transformer's with its square. Tested
          at short side 1024, in windows of 1024 every 682.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/ade20k_1024x1024.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

crop_size = _base_.crop_size
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(grid=(64, 64), with_cp=True),
    test_cfg=dict(crop_size=crop_size, stride=(682, 682)),
)
