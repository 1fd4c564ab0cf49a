"""Loads AMOS22 from data/amos22 (its own dataset.json, Decathlon-like): CT and MR, 15 abdominal organs."""

_base_ = ["volumes.py"]

data_root = "data/amos22"
plan = dict(
    channels=["CT or MR"],
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
        pancreas=10,
        right_adrenal_gland=11,
        left_adrenal_gland=12,
        duodenum=13,
        bladder=14,
        prostate_or_uterus=15,
    ),
    orientation="RAS",
    spacing_mm=(1.5, 1.5, 2.0),
    patch_vox=(96, 96, 96),
    intensity=[dict(rule="zscore")],  # a window in HU would clip the MR cases
)
shared = dict(data_root=data_root, plan=plan)
# Left and right organs have classes of their own, or sides of their own.
train_dataloader = dict(num_workers=4, persistent_workers=True, dataset=dict(**shared, augment=dict(flip_axes=())))
val_dataloader = test_dataloader = dict(dataset=shared)
val_evaluator = test_evaluator = dict(plan=plan)
