"""Volumes of a fold: patches by draw for training, whole volumes for validation. The config's `plan`, `data_root`,
`datalist` and `fold` go here too (vil_dense/mm/settle.py)."""

fold = 0
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="KeyedInfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="VolumeDataset", train=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="VolumeDataset", train=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="VolumeMetric")
test_evaluator = val_evaluator
