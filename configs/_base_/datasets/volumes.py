"""Volumes of a fold: random patches for training, whole volumes on their own grid for validation.

The file of a data set adds `plan` and `data_root`. What `shared` names is written into each part below, so that MMEngine
builds it, and again at the top, where a command replaces it for all parts: `--cfg-options plan=FILE data_root=DIR fold=1`
(`resolve_plan` in vil_dense/mm/engine/resolve_config.py). A part whose value is not that of `shared` keeps its own.
"""

datalist = None
fold = 0
patient = None
shared = dict(datalist=datalist, fold=fold, patient=patient)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="KeyedInfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="VolumeDataset", train=True, **shared),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(type="VolumeDataset", train=False, **shared),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="VolumeMetric")
test_evaluator = val_evaluator
