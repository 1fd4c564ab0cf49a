"""Loads LoveDA, 7 classes: 2522 tiles to train and 1669 to validate, each 1024 x 1024, as `ade20k.py` does.

`data/loveDA` holds `img_dir/{train,val}` and `ann_dir/{train,val}` as mmseg's converter writes them. Tests are at 1024 px,
as in mmseg.
"""

_base_ = "./ade20k.py"

data_root = "data/loveDA"
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (1024, 1024)  # Resize
train_dataloader = dict(
    dataset=dict(
        type="CheckedLoveDADataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CheckedLoveDADataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
