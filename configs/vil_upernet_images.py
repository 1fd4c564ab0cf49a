"""Trains a small ViL (v2, 8 blocks of 96 channels, patches of 8 px) with UperNet on pictures and masks of your own.

Command:  python tools/train.py configs/vil_upernet_images.py --cfg-options data_root=D
Options:  classes=ADE20KDataset | FILE, ignore=[255], split_by='(.*)_[0-9]+', train_cfg.max_iters=N, crop_size=(H,W); all
          are in configs/_base_/datasets/images.py.
Predict:  python tools/predict.py work_dirs/vil_upernet_images PICTURES --out OUT
Source:   our own recipe; layouts, classes and split are found in the folder, see configs/README.md.
Result:   Not run yet.
"""

_base_ = [
    "_base_/models/vil_upernet.py",
    "_base_/datasets/images.py",
    "_base_/schedules/adamw_scratch.py",
    "_base_/runtime.py",
]

dim = 96
channels = 64
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(dim=dim, depth=8, patch_size=8, grid=(16, 16), out_indices=(1, 3, 5, 7)),
    neck=dict(embed_dim=dim, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(in_channels=[dim] * 4, channels=channels, num_classes=_base_.num_classes),
    auxiliary_head=dict(in_channels=dim, channels=channels, num_classes=_base_.num_classes),
    test_cfg=dict(_delete_=True, mode="whole"),
)
train_cfg = dict(max_iters=2000, val_interval=500)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=500))
