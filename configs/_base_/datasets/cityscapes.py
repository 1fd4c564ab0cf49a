"""Loads Cityscapes, 19 classes: 2975 pictures to train and 500 to validate, each 1024 x 2048, as `ade20k.py` does.

`data/cityscapes` holds `leftImg8bit/{train,val}/CITY` and `gtFine/{train,val}/CITY` with the labelTrainIds files that
cityscapesscripts writes. Crops are 512 x 1024, as in mmseg.
"""

_base_ = "./ade20k.py"

data_root = "data/cityscapes"
crop_size = (512, 1024)
image_scale = (2048, 1024)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = test_pipeline[1].scale = image_scale  # RandomResize, Resize
train_pipeline[4].crop_size = crop_size  # RandomCrop
train_dataloader = dict(
    dataset=dict(
        type="CheckedCityscapesDataset",
        data_root=data_root,
        data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CheckedCityscapesDataset",
        data_root=data_root,
        data_prefix=dict(img_path="leftImg8bit/val", seg_map_path="gtFine/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
