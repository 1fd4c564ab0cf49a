"""Trains ViL-B (v2) with a 384-channel UperNet on ADE20K: 512 x 512 crops, 160k steps, stochastic depth 0.1.

Command:  python tools/train.py configs/ade20k/vil2-b_upernet_1xb16-160k_ade20k-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_base16_e400_in1k.th
Source:   ViL paper, experiments on ADE20K.
Expected: mIoU 48.6 with --protocol squash, 49.6 multi-scale.
Result:   Not run yet.
"""

_base_ = "../vil_upernet_ade20k.py"

dim = 768
channels = 384
model = dict(
    backbone=dict(variant="vil2-base", drop_path=0.1, drop_path_decay=True, drop_path_form="subset"),
    neck=dict(embed_dim=dim),
    decode_head=dict(in_channels=[dim] * 4, channels=channels),
    auxiliary_head=dict(in_channels=dim, channels=channels),
)
