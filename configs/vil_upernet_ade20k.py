"""ViL-T (v2) + UperNet on ADE20K: the ViL paper's recipe, one GPU, batch 16, 160k steps, half precision.

Command:  python tools/train.py configs/vil_upernet_ade20k.py --amp --cfg-options
              model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=vil2_tiny16_e800_in1k.th
Weights:  https://ml.jku.at/research/vision_lstm/download/vil2_tiny16_e800_in1k.th; from scratch without init_cfg.
Test:     python tools/test.py configs/vil_upernet_ade20k.py CHECKPOINT --protocol mmseg | squash | multiscale
Size:     6.2M backbone, 4.7M neck and head, 0.4M auxiliary head.
Paper:    mIoU 41.2 (its code squashes every picture to 512 x 512: --protocol squash), 43.1 multi-scale.
Result:   to be measured.
"""

_base_ = [
    "_base_/models/vil_upernet.py",
    "_base_/datasets/ade20k.py",
    "_base_/schedules/adamw_160k.py",
    "_base_/runtime.py",
]
