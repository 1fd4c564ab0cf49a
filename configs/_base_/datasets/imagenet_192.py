"""Loads ImageNet-1K as `imagenet.py` does, at 192 px."""

_base_ = ["imagenet.py"]

size = 192
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadPicture"),
    dict(type="RandomResizedCrop", size=size, scale=(0.08, 1.0)),
    dict(type="FlipPicture", prob=0.5),
    dict(type="ThreeAugment"),
    dict(type="PictureJitter", brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type="PackPicture"),
]
test_pipeline = [
    dict(type="LoadPicture"),
    dict(type="ResizeCentreCrop", size=size),
    dict(type="PackPicture"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
