"""Loads MSD Task04 Hippocampus from data/Task04_Hippocampus (Decathlon layout): 260 crops of 1 mm, median 35 x 50 x 36.

Folds are those of `splits_final.json` or of a datalist's `fold`; without either, made ones.
"""

_base_ = ["volumes.py"]

data_root = "data/Task04_Hippocampus"
plan = dict(
    channels=["MRI"],
    labels=dict(background=0, Anterior=1, Posterior=2),
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch_vox=(40, 56, 40),
    intensity=[dict(rule="zscore")],
)
shared = dict(data_root=data_root, plan=plan)
# Turned front to back, Anterior and Posterior would change places.
train_dataloader = dict(dataset=dict(**shared, augment=dict(flip_axes=(0, 2))))
val_dataloader = test_dataloader = dict(dataset=shared)
val_evaluator = test_evaluator = dict(plan=plan)
