"""Trains ViL-S (v2) with a 384-channel UperNet on ADE20K: 512 x 512 crops, 160k steps, stochastic depth 0.05.

Command:  python tools/train.py configs/ade20k/vil2-s_upernet_1xb16-160k_ade20k-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_small16_e400_in1k.th
Source:   ViL paper, experiments on ADE20K.
Expected: mIoU 46.3 with --protocol squash, 47.9 multi-scale.
Result:   Not run yet.
"""

_base_ = "../vil_upernet_ade20k.py"

dim = 384
model = dict(
    backbone=dict(variant="vil2-small", drop_path=0.05, drop_path_decay=True, drop_path_form="subset"),
    neck=dict(embed_dim=dim),
    decode_head=dict(in_channels=[dim] * 4, channels=dim),
    auxiliary_head=dict(in_channels=dim, channels=dim),
)
