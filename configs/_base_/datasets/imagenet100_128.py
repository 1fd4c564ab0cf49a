"""Loads the first 100 classes of ImageNet-1K by WordNet id, at 128 px; otherwise as `imagenet.py` does.

The authors' "ImageNet-100" is this subset: their code draws a random order of the classes and does not use it.
"""

_base_ = ["imagenet.py"]

size = 128
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
train_dataloader = dict(dataset=dict(first=100, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(first=100, pipeline=test_pipeline))
test_dataloader = val_dataloader
