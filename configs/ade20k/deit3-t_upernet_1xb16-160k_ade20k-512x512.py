"""The transformer control of vil_upernet_ade20k.py: DeiT-III-T blocks in place of ViL's, everything else the same.

Command:  python tools/train.py configs/ade20k/deit3-t_upernet_1xb16-160k_ade20k-512x512.py --amp --cfg-options
              model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE
FILE is a DeiT-III-T in this project's own layout: the authors' published transformer files have no converter yet.
Twelve transformer blocks have the parameters of ViL-T's 24; each is a layer of the layer decay.
Paper:    mIoU 39.8 (squashed), 42.2 multi-scale (the ViL authors' DeiT-III-T).
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(backbone=dict(variant="deit3-tiny", out_indices=(3, 5, 7, 11)))
optim_wrapper = dict(paramwise_cfg=dict(blocks_per_layer=1))
