"""Loads ISPRS Vaihingen, 6 classes: 344 tiles to train and 398 to validate, each 512 x 512, as `ade20k.py` does.

`data/vaihingen` holds `img_dir/{train,val}` and `ann_dir/{train,val}` as mmseg's converter writes them.
"""

_base_ = "./ade20k.py"

data_root = "data/vaihingen"
image_scale = (512, 512)
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
    dict(type="RandomCrop", crop_size=_base_.crop_size, cat_max_ratio=0.75),
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
        type="CheckedISPRSDataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CheckedISPRSDataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
