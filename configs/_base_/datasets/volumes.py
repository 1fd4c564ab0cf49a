"""Loads the volumes of a fold: random patches for training, whole volumes on their own grid for validation.

The file of a data set defines `plan` and `data_root` and writes them into the parts below, so that MMEngine builds these.
A command replaces them for all parts: `--cfg-options plan=FILE data_root=DIR fold=1` (`resolve_plan` in
vil_dense/mm/engine/resolve/config.py). `shared` holds what was written, so that a value set in one part only
is recognised and not overwritten. `cascade` is the folder of a finished cross-validation, whose masks the network sees
as well, see vil_dense/medical/README.md.
"""

datalist = None
fold = 0
patient = None
cascade = None
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
