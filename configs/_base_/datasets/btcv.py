"""Loads BTCV from data/BTCV: imagesTr, labelsTr and dataset_0.json (24 to train, 6 to validate), 13 organs in CT."""

_base_ = ["volumes.py"]

data_root = "data/BTCV"
datalist = "dataset_0.json"
plan = dict(
    channels=["CT"],
    labels=dict(
        background=0,
        spleen=1,
        right_kidney=2,
        left_kidney=3,
        gallbladder=4,
        esophagus=5,
        liver=6,
        stomach=7,
        aorta=8,
        inferior_vena_cava=9,
        portal_and_splenic_vein=10,
        pancreas=11,
        right_adrenal_gland=12,
        left_adrenal_gland=13,
    ),
    orientation="RAS",
    spacing_mm=(1.5, 1.5, 2.0),
    patch_vox=(96, 96, 96),
    intensity=[dict(rule="range", low=-175.0, high=250.0)],
)
shared = dict(data_root=data_root, datalist=datalist, plan=plan)
# Left and right organs have classes of their own, or sides of their own.
train_dataloader = dict(num_workers=4, persistent_workers=True, dataset=dict(**shared, augment=dict(flip_axes=())))
val_dataloader = test_dataloader = dict(dataset=shared)
val_evaluator = test_evaluator = dict(plan=plan)
