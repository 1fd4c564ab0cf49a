"""Loads Pascal Context, 60 classes with the background: 4996 pictures to train and 5104 to validate, as `ade20k.py` does.

`data/VOCdevkit/VOC2010` holds what mmseg's converter writes. Pictures are scaled to 520 px and crops are 480 x 480, as in
mmseg.
"""

_base_ = "./ade20k.py"

data_root = "data/VOCdevkit/VOC2010"
crop_size = (480, 480)
image_scale = (520, 520)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = test_pipeline[1].scale = image_scale  # RandomResize, Resize
train_pipeline[4].crop_size = crop_size  # RandomCrop
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
