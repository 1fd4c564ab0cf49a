"""Loads pictures without labels from a folder, of any size: random crops scaled to 192 x 192 px, mirrored.

All pictures below `train_dataloader.dataset.data_root` are read, in whatever folders they are.
"""

size = 192
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadPicture"),
    dict(type="RandomResizedCrop", size=size, scale=(0.2, 1.0)),
    dict(type="FlipPicture", prob=0.5),
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
    dataset=dict(type="UnlabelledPictures", data_root="data/pictures", pipeline=train_pipeline),
)
