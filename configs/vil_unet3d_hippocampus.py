"""ViLUNet3D on MSD Task04 Hippocampus, fold 0 (208 / 52 cases), on a budget that two CPU cores can pay.

Command:  python tools/train.py configs/vil_unet3d_hippocampus.py
Data:     the Decathlon's Task04_Hippocampus in data/Task04_Hippocampus.
ViL at /4 and /8: a patch has 1400 and 175 tokens there.
Result:   to be measured.
"""

_base_ = [
    "_base_/datasets/volumes.py",
    "_base_/schedules/adamw_volumes.py",
    "_base_/volumes_runtime.py",
]

data_root = "data/Task04_Hippocampus"
plan = dict(
    channels=["MRI"],
    labels=dict(background=0, Anterior=1, Posterior=2),
    orientation="RAS",
    spacing_mm=(1.0, 1.0, 1.0),
    patch_vox=(40, 56, 40),
    intensity=[dict(rule="zscore")],
)
model = dict(
    type="VolumeSegmentor",
    network=dict(
        type="ViLUNet3D",
        channels=(16, 32, 64, 96),
        depths=(0, 0, 4, 2),
        block="vil",
    ),
)
train_dataloader = dict(dataset=dict(augment=dict(flip_axes=(0, 2))))
