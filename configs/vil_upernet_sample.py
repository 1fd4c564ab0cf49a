"""Trains a small ViL (v2, 8 blocks of 96 channels, patches of 8 px) with UperNet on the synthetic sample: `make train`.

Command:  python tools/dataset_converters/make_sample.py && python tools/train.py configs/vil_upernet_sample.py
Source:   our own recipe; tested on whole pictures at their own size.
Result:   mIoU 81.70, aAcc 92.56 on the 50 held-out scenes; 8 minutes on two cores of a busy CPU (float32). Per class
          and curves: configs/results/vil_upernet_sample.
"""

_base_ = [
    "_base_/models/vil_upernet.py",
    "_base_/datasets/sample.py",
    "_base_/schedules/adamw_scratch.py",
    "_base_/runtime.py",
]

dim = 96
channels = 64
num_classes = 12
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(dim=dim, depth=8, patch_size=8, grid=(16, 16), out_indices=(1, 3, 5, 7)),
    neck=dict(embed_dim=dim, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(in_channels=[dim] * 4, channels=channels, num_classes=num_classes),
    auxiliary_head=dict(in_channels=dim, channels=channels, num_classes=num_classes),
    test_cfg=dict(_delete_=True, mode="whole"),
)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
train_cfg = dict(max_iters=420, val_interval=210)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=210))
