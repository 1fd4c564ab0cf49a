"""Trains ViL-T (v2) with UperNet on ADE20K: 512 x 512 crops, batch 16, 160k steps. Start here for segmentation.

Command:  python tools/train.py configs/vil_upernet_ade20k.py --amp --cfg-options model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Test:     python tools/test.py configs/vil_upernet_ade20k.py CHECKPOINT --protocol mmseg | squash | multiscale
Source:   ViL paper, experiments on ADE20K. Parameters: backbone 6.2M, neck and head 4.7M, auxiliary head 0.4M.
Expected: mIoU 41.2 with --protocol squash (the authors' code squashes every picture to 512 x 512), 43.1 multi-scale.
Weights:  https://ml.jku.at/research/vision_lstm/download/vil2_tiny16_e800_in1k.th; without init_cfg from scratch.
Result:   Not run yet.
"""

_base_ = [
    "_base_/models/vil_upernet.py",
    "_base_/datasets/ade20k.py",
    "_base_/schedules/adamw_160k.py",
    "_base_/runtime.py",
]

# The authors draw the convolutions of both heads from N(0, 0.02); mmseg's own differ from layer to layer.
init_cfg = dict(type="NormalConvs", std=0.02)
model = dict(decode_head=dict(init_cfg=init_cfg), auxiliary_head=dict(init_cfg=init_cfg))
