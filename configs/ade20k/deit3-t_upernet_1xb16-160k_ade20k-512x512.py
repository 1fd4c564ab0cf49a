"""Trains the transformer control of vil_upernet_ade20k.py on ADE20K: attention blocks in place of ViL's.

Command:  python tools/train.py configs/ade20k/deit3-t_upernet_1xb16-160k_ade20k-512x512.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE
Weights:  FILE is a run of configs/imagenet/deit3-t*.py; the authors' transformer files have no converter yet.
Source:   ViL paper, experiments on ADE20K (the authors' DeiT-III-T).
Expected: mIoU 39.8 with --protocol squash, 42.2 multi-scale.
Differs:  the authors' encoder adds a relative position bias (142,992 parameters) and keeps the class token.
Result:   Not run yet.
"""

_base_ = "../vil_upernet_ade20k.py"

# Twelve transformer blocks have the parameters of ViL-T's 24; each is a layer of the layer decay.
model = dict(backbone=dict(variant="deit3-tiny", out_indices=(3, 5, 7, 11)))
optim_wrapper = dict(paramwise_cfg=dict(blocks_per_layer=1))
