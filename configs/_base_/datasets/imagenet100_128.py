"""Loads the first 100 classes of ImageNet-1K by WordNet id, at 128 px; otherwise as `imagenet.py` does.

The authors' "ImageNet-100" is this subset: their code draws a random order of the classes and does not use it.
"""

_base_ = ["imagenet.py"]

size = 128
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].size = test_pipeline[1].size = size  # RandomResizedCrop, ResizeCentreCrop
train_dataloader = dict(dataset=dict(first=100, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(first=100, pipeline=test_pipeline))
test_dataloader = val_dataloader
