"""Loads MSD Task01 BrainTumour from data/Task01_BrainTumour (Decathlon layout, 4 channels in a 4D file): 484 cases."""

_base_ = ["volumes.py"]

data_root = "data/Task01_BrainTumour"
plan = dict(
    channels=["FLAIR", "T1w", "T1gd", "T2w"],
    labels=dict(background=0, edema=1, non_enhancing_tumour=2, enhancing_tumour=3),
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch_vox=(128, 128, 128),
    intensity=[dict(rule="zscore", nonzero=True)] * 4,
)
shared = dict(data_root=data_root, plan=plan)
train_dataloader = dict(num_workers=4, persistent_workers=True, dataset=shared)
val_dataloader = test_dataloader = dict(dataset=shared)
# The challenge's nested regions: whole tumour, core, enhancing.
val_evaluator = dict(plan=plan, classes=dict(whole=[1, 2, 3], core=[2, 3], enhancing=[3]))
test_evaluator = val_evaluator
