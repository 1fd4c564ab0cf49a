"""Loads ACDC as nnU-Net's raw data, data/nnUNet_raw/Dataset027_ACDC: cine MR, slices of 5 to 10 mm; 200 phases."""

_base_ = ["volumes.py"]

data_root = "data/nnUNet_raw/Dataset027_ACDC"
patient = r"patient\d+"  # two phases each, which go to one fold
plan = dict(
    channels=["cineMRI"],
    labels=dict(background=0, right_ventricle=1, myocardium=2, left_ventricle=3),
    orientation="RAS",
    spacing_mm=(1.5625, 1.5625, 10.0),
    patch_vox=(192, 192, 16),
    intensity=[dict(rule="zscore")],
)
shared = dict(data_root=data_root, patient=patient, plan=plan)
train_dataloader = dict(num_workers=4, persistent_workers=True, dataset=dict(**shared, augment=dict(flip_axes=(0, 1))))
val_dataloader = test_dataloader = dict(dataset=shared)
val_evaluator = test_evaluator = dict(plan=plan)
