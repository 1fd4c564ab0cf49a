"""Trains the small ViL of vil_upernet_sample.py with a mask-classification head on the synthetic sample.

Command:  python tools/dataset_converters/make_sample.py && python tools/train.py configs/vil_maskformer_sample.py
Source:   our own recipe, that of vil_upernet_sample.py: 24 queries for 12 classes, 3 layers, 1024 points of a mask.
Result:   Not run yet.
"""

_base_ = [
    "_base_/models/vil_maskformer.py",
    "_base_/datasets/sample.py",
    "_base_/schedules/adamw_scratch.py",
    "_base_/runtime.py",
]

dim = 96
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(dim=dim, depth=8, patch_size=8, grid=(16, 16), out_indices=(1, 3, 5, 7)),
    neck=dict(embed_dim=dim, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(
        in_channels=[dim] * 4,
        channels=64,
        num_classes=12,
        num_queries=24,
        num_layers=3,
        num_heads=4,
        num_points=1024,
    ),
    test_cfg=dict(_delete_=True, mode="whole"),
)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
train_cfg = dict(max_iters=420, val_interval=210)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=210))
