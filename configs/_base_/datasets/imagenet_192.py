"""Loads ImageNet-1K as `imagenet.py` does, at 192 px."""

_base_ = ["imagenet.py"]

size = 192
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[2].size = test_pipeline[1].size = size  # RandomResizedCrop, ResizeCentreCrop
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
