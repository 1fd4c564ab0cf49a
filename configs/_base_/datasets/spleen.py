"""Loads MSD Task09 Spleen from data/Task09_Spleen (Decathlon layout): 41 CT; MONAI's spacing and window."""

_base_ = ["volumes.py"]

data_root = "data/Task09_Spleen"
plan = dict(
    channels=["CT"],
    labels=dict(background=0, spleen=1),
    orientation="RAS",
    spacing_mm=(1.5, 1.5, 2.0),
    patch_vox=(96, 96, 96),
    intensity=[dict(rule="range", low=-57.0, high=164.0)],
)
shared = dict(data_root=data_root, plan=plan)
# Left and right organs have classes of their own, or sides of their own.
train_dataloader = dict(num_workers=4, persistent_workers=True, dataset=dict(**shared, augment=dict(flip_axes=())))
val_dataloader = test_dataloader = dict(dataset=shared)
val_evaluator = test_evaluator = dict(plan=plan)
