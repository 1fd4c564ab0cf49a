"""Loads ImageNet-1K at 224 px with the ViL paper's augmentation (table 5); tests at short side 224, centre crop.

`data/imagenet` holds `train/WNID/*.JPEG` and `val/`: in such folders, too, or flat beside the devkit
(`ILSVRC2012_devkit_t12`), or with a list of lines `NAME CLASS_INDEX` in `val_dataloader.dataset.ann_file`.
Classes of your own in folders of this form load with `data_root` and `model.num_classes`.
"""

data_root = "data/imagenet"
size = 224
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadPicture"),
    dict(type="RandomResizedCrop", size=size, scale=(0.08, 1.0)),
    dict(type="FlipPicture", prob=0.5),
    dict(type="ThreeAugment"),
    dict(type="PictureJitter", brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type="PackPicture"),
]
test_pipeline = [
    dict(type="LoadPicture"),
    dict(type="ResizeCentreCrop", size=size),
    dict(type="PackPicture"),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="KeyedSampler", shuffle=True),
    dataset=dict(type="LabelledPictures", data_root=data_root, split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    collate_fn=dict(type="default_collate"),
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="LabelledPictures", data_root=data_root, split="val", pipeline=test_pipeline, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="TopAccuracy")
test_evaluator = val_evaluator
