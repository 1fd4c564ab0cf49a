"""Loads CamVid with SegNet's 11 classes: 367 pictures to train, 101 to validate, each 360 x 480.

`data/camvid` holds `images/{train,val}/*.jpg` and `annotations/{train,val}/*.png` (ids 0..10, 11 = unlabelled).
Training scales by 0.5 to 2, crops 256 x 256 and flips. Testing takes whole pictures at their own size.
"""

_base_ = "./segmentation.py"

data_root = "data/camvid"
crop_size = (256, 256)
image_scale = (480, 360)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=image_scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        type="CamVidDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/train", seg_map_path="annotations/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type="CamVidDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/val", seg_map_path="annotations/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
