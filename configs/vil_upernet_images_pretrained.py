"""Fine-tunes ViL-T (v2), pretrained on ImageNet, with UperNet on pictures and masks of your own.

Command:  python tools/train.py configs/vil_upernet_images_pretrained.py --amp --cfg-options data_root=D
Weights:  https://ml.jku.at/research/vision_lstm/download/vil2_tiny16_e800_in1k.th in the current folder, or
          model.backbone.init_cfg.checkpoint=FILE; other sizes and checkpoints: configs/README.md, "Pretrained weights".
Source:   our own recipe; layouts, classes and split are found as in vil_upernet_images.py.
Result:   Not run yet.
"""

_base_ = [
    "_base_/models/vil_upernet.py",
    "_base_/datasets/images.py",
    "_base_/schedules/adamw_scratch.py",
    "_base_/runtime.py",
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(grid=(8, 8), init_cfg=dict(type="Pretrained", checkpoint="vil2_tiny16_e800_in1k.th")),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(_delete_=True, mode="whole"),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65), optimizer=dict(lr=5e-4))
train_cfg = dict(max_iters=2000, val_interval=500)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500))
