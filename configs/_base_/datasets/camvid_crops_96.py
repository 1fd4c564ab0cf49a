"""Loads crops of CamVid's training pictures at 96 px, 7 classes.

`tools/dataset_converters/make_crops.py` writes them to `data/camvid_crops`.
"""

_base_ = "./imagenet.py"

data_root = "data/camvid_crops"
size = 96
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadPicture"),
    dict(type="RandomResizedCrop", size=size, scale=(0.25, 1.0)),
    dict(type="FlipPicture", prob=0.5),
    dict(type="PictureJitter", brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type="PackPicture"),
]
test_pipeline = _base_.test_pipeline
test_pipeline[1].size = size  # ResizeCentreCrop
train_dataloader = dict(batch_size=64, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
