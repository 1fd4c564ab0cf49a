"""Loads CamVid as `camvid.py` does, with crops of 160 x 160."""

_base_ = "./camvid.py"

crop_size = (160, 160)
train_pipeline = _base_.train_pipeline
train_pipeline[4].crop_size = crop_size  # RandomCrop
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
