"""Loads Pascal VOC 2012, 21 classes with the background: 1464 pictures to train and 1449 to validate, as `ade20k.py` does.

`data/VOCdevkit/VOC2012` is the unpacked archive.
"""

_base_ = "./ade20k.py"

data_root = "data/VOCdevkit/VOC2012"
train_dataloader = dict(
    dataset=dict(
        type="CheckedPascalVOCDataset",
        data_root=data_root,
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file="ImageSets/Segmentation/train.txt",
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CheckedPascalVOCDataset",
        data_root=data_root,
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file="ImageSets/Segmentation/val.txt",
    ),
)
test_dataloader = val_dataloader
