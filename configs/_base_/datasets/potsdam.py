"""Loads ISPRS Potsdam, 6 classes: 3456 tiles to train and 2016 to validate, each 512 x 512, as `ade20k.py` does.

`data/potsdam` holds `img_dir/{train,val}` and `ann_dir/{train,val}` as mmseg's converter writes them.
"""

_base_ = "./ade20k.py"

data_root = "data/potsdam"
image_scale = (512, 512)
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[3].scale = test_pipeline[1].scale = image_scale  # RandomResize, Resize
train_dataloader = dict(
    dataset=dict(
        type="CheckedPotsdamDataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CheckedPotsdamDataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
