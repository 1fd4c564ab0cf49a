"""Volumes of a fold: random patches for training, whole volumes on their own grid for validation.

The config's `plan`, `data_root`, `datalist`, `fold` and `patient` go here too (vil_dense/mm/engine/resolve_config.py).
"""

datalist = None
fold = 0
patient = None
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
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type="VolumeDataset", train=False),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="VolumeMetric")
test_evaluator = val_evaluator
