"""Loads ADE20K as `ade20k.py` does, at twice the resolution: short side 1024, crops of 1024 x 1024."""

_base_ = "./ade20k.py"

crop_size = (1024, 1024)
image_scale = (4096, 1024)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = test_pipeline[1].scale = image_scale  # RandomResize, Resize
train_pipeline[4].crop_size = crop_size  # RandomCrop
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
