"""Loads ISPRS Vaihingen, 6 classes: 344 tiles to train and 398 to validate, each 512 x 512, as `potsdam.py` does.

`data/vaihingen` holds `img_dir/{train,val}` and `ann_dir/{train,val}` as mmseg's converter writes them.
"""

_base_ = "./potsdam.py"

data_root = "data/vaihingen"
train_dataloader = dict(dataset=dict(type="CheckedISPRSDataset", data_root=data_root))
val_dataloader = dict(dataset=dict(type="CheckedISPRSDataset", data_root=data_root))
test_dataloader = val_dataloader
