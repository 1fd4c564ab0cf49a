"""Loads left atria of the 2018 challenge at about 2 mm, cropped around the atrium: 80 MR volumes to train, 20 to test.

Made by tools/dataset_converters/make_left_atrium.py; median 59 x 44 x 28 voxels, so that a patch holds a whole volume.
The files do not say which way the axes point, so that no axis is known to be left and right; the published work on
this set mirrors them as well.
"""

_base_ = ["volumes.py"]

data_root = "data/left_atrium"
plan = dict(
    channels=["MRI"],
    labels={"background": 0, "Left atrium": 1},
    orientation="RAS",
    spacing_mm=(2.0, 2.0, 2.0),
    patch_vox=(64, 48, 28),
    intensity=[dict(rule="zscore")],
)
shared = dict(data_root=data_root, plan=plan)
train_dataloader = dict(dataset=dict(**shared, augment=dict(flip_axes=(0, 1))))
val_dataloader = test_dataloader = dict(dataset=shared)
val_evaluator = test_evaluator = dict(plan=plan)
