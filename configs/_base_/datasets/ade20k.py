"""Loads ADE20K, 150 classes, with the augmentation of the ViL paper.

Training scales the short side of 512 by 0.5 to 2 (bicubic with PIL's antialiasing, as the authors do), crops 512 x 512, flips, and jitters the colours of every
picture. A picture smaller than the crop is padded on the right and at the bottom; the authors' code pads on all sides.
Testing follows mmseg, short side 512; `tools/test.py --protocol` has the others.
"""

_base_ = "./segmentation.py"

data_root = "data/ade/ADEChallengeData2016"
crop_size = (512, 512)
image_scale = (2048, 512)
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
    batch_size=16,
    num_workers=8,
    dataset=dict(
        type="CheckedADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        type="CheckedADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
