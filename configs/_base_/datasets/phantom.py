"""Loads the synthetic sample of volumes: abdomens with thick slices, 24 to train and 6 to validate.

Made by tools/dataset_converters/make_phantom.py.
"""

_base_ = ["volumes.py"]

data_root = "data/phantom"
plan = dict(
    channels=["CT"],
    labels=dict(background=0, liver=1, spleen=2, vessel=3, gland=4),
    orientation="RAS",
    spacing_mm=(2.0, 2.0, 5.0),
    patch_vox=(48, 48, 16),
    intensity=[dict(rule="ct", low=-100.0, high=300.0, mean=100.0, std=60.0)],
)
shared = dict(data_root=data_root, plan=plan)
# The liver lies right.
train_dataloader = dict(dataset=dict(**shared, augment=dict(flip_axes=(2,))))
val_dataloader = test_dataloader = dict(dataset=shared)
val_evaluator = test_evaluator = dict(plan=plan)
