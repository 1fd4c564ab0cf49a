"""Trains ViL-T (v2) with a 512-channel UperNet on ADE20K: 512 x 512 crops, 160k steps.

Command:  python tools/train.py configs/ade20k/vil2-t_upernet-512_1xb16-160k_ade20k-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Source:   the head of most published tables; that of the paper's ViL-T has 192 channels and costs 7 times less.
Result:   Not run yet.
"""

_base_ = "../vil_upernet_ade20k.py"

model = dict(decode_head=dict(channels=512), auxiliary_head=dict(channels=256))
