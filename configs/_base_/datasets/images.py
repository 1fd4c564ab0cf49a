"""Loads pictures and masks of one's own from a folder in any common layout; finds split and classes itself.

`ViLRunner` inspects `data_root` and replaces the values of `shared`, which stand here for a folder not seen yet: crop,
scale of the pictures, and number of classes. A value that is set stays. The keys above `crop_size` are explained in
`vil_dense/mm/datasets/folders`.
"""

_base_ = "./segmentation.py"

data_root = "data/images"
pictures = ""
masks = ""
classes = None
ignore = None
coding = None
split_by = None
val_share = 0.2
split_seed = 0
crop_size = (128, 128)
image_scale = (512, 128)
num_classes = 2
shared = dict(
    data_root=data_root,
    pictures=pictures,
    masks=masks,
    classes=classes,
    ignore=ignore,
    coding=coding,
    split_by=split_by,
    val_share=val_share,
    split_seed=split_seed,
    crop_size=crop_size,
    image_scale=image_scale,
    num_classes=num_classes,
)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadImageFromFile"),
    dict(type="LoadMask"),
    dict(type="RandomResize", scale=image_scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ColorJitter", brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_scale, keep_ratio=True),
    dict(type="LoadMask"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(type="PictureFolder", data_root=data_root, split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(type="PictureFolder", data_root=data_root, split="val", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
