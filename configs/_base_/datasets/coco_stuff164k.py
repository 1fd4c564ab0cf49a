"""Loads COCO-Stuff 164k, 171 classes: 118287 pictures to train and 5000 to validate, as `ade20k.py` does.

`data/coco_stuff164k` holds `images/{train,val}2017` and `annotations/{train,val}2017` with the labelTrainIds files that
mmseg's converter writes.
"""

_base_ = "./ade20k.py"

data_root = "data/coco_stuff164k"
train_dataloader = dict(
    dataset=dict(
        type="CheckedCOCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/train2017", seg_map_path="annotations/train2017"),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type="CheckedCOCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/val2017", seg_map_path="annotations/val2017"),
    ),
)
test_dataloader = val_dataloader
