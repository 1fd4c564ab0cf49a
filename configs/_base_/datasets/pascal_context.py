"""Loads Pascal Context, 60 classes with the background: 4996 pictures to train and 5104 to validate, as `ade20k.py` does.

`data/VOCdevkit/VOC2010` holds what mmseg's converter writes. Pictures are scaled to 520 px and crops are 480 x 480, as in
mmseg.
"""

_base_ = "./ade20k.py"

data_root = "data/VOCdevkit/VOC2010"
crop_size = (480, 480)
image_scale = (520, 520)
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
train_dataloader = dict(
    dataset=dict(
        type="CheckedPascalContextDataset",
        data_root=data_root,
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext"),
        ann_file="ImageSets/SegmentationContext/train.txt",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CheckedPascalContextDataset",
        data_root=data_root,
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext"),
        ann_file="ImageSets/SegmentationContext/val.txt",
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
