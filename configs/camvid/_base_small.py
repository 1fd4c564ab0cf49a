"""A small ViL (v2, 6 blocks of 64 channels) + UperNet on CamVid, 600 steps of four 160 px crops, one core.

What a step and a picture draw is keyed by seed, step and sample, so a stopped and resumed run goes the same way.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/adamw_scratch.py",
    "../_base_/runtime.py",
]

dim = 64
channels = 32
crop_size = (160, 160)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(dim=dim, depth=6, grid=(10, 10), out_indices=(1, 2, 3, 5)),
    neck=dict(embed_dim=dim),
    decode_head=dict(in_channels=[dim] * 4, channels=channels, num_classes=11),
    auxiliary_head=dict(in_channels=dim, channels=channels, num_classes=11),
    test_cfg=dict(_delete_=True, mode="whole"),
)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(480, 360), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type="KeyedInfiniteSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
train_cfg = dict(max_iters=600, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=100), logger=dict(interval=20))
custom_hooks = [dict(type="StepSeedHook"), dict(type="ReportHook")]
