"""Trains a small ViL (v2, 6 blocks of 64 channels) with UperNet on CamVid from scratch: 160 x 160 crops, 600 steps.

Command:  python tools/train.py configs/camvid/vil2-6x64_upernet_1xb4-600_camvid-160x160.py --resume --cfg-options randomness.seed=0
Source:   our own recipe; the control of configs/camvid/vil2-6x64-crops_upernet_1xb4-600_camvid-160x160.py.
Result:   seeds 0, 1, 2: mIoU 19.36, 19.99, 19.88 after 600 steps (float32, one CPU core, 4 minutes a run).
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/camvid_160x160.py",
    "../_base_/schedules/adamw_scratch.py",
    "../_base_/runtime.py",
]

dim = 64
channels = 32
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(dim=dim, depth=6, grid=(10, 10), out_indices=(1, 2, 3, 5)),
    neck=dict(embed_dim=dim),
    decode_head=dict(in_channels=[dim] * 4, channels=channels, num_classes=11),
    auxiliary_head=dict(in_channels=dim, channels=channels, num_classes=11),
    test_cfg=dict(_delete_=True, mode="whole"),
)
train_cfg = dict(max_iters=600, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=20))
