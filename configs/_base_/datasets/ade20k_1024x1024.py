"""Loads ADE20K as `ade20k.py` does, at twice the resolution: short side 1024, crops of 1024 x 1024."""

_base_ = "./ade20k.py"

crop_size = (1024, 1024)
image_scale = (4096, 1024)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomResize",
        scale=image_scale,
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
        interpolation="bicubic",
        backend="pillow",
    ),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ColorJitter", brightness=0.5, contrast=0.5, saturation=0.5, hue=0.25),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_scale, keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
