"""ViL-B (v2) + UperNet (384 channels) on ADE20K: vil_upernet_ade20k.py with stochastic depth 0.1.

Command:  python tools/train.py configs/ade20k/vil2-b_upernet_1xb16-160k_ade20k-512x512.py --amp --cfg-options
              model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_base16_e400_in1k.th
Paper:    mIoU 48.6 (squashed), 49.6 multi-scale.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

dim = 768
channels = 384
model = dict(
    backbone=dict(variant="vil2-base", drop_path=0.1, drop_path_decay=True),
    neck=dict(embed_dim=dim),
    decode_head=dict(in_channels=[dim] * 4, channels=channels),
    auxiliary_head=dict(in_channels=dim, channels=channels),
)
