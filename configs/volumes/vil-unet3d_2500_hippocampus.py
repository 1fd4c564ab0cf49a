"""Trains ViLUNet3D on MSD Task04 Hippocampus, fold 0 (208 / 52 cases), on a budget for CPUs.

Command:  python tools/train.py configs/volumes/vil-unet3d_2500_hippocampus.py
ViL at 1/4 and 1/8 resolution: a patch has 1400 and 175 tokens there.
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   five folds (tools/volumes/cross_validate.py), 260 held-out cases: mean Dice 0.885 (95 %: 0.882 to 0.889;
          Anterior 0.894, Posterior 0.877), HD95 1.45 mm, NSD 0.948 at 1 mm; none missed. Float32, 30 minutes of one
          CPU core (AMD) a fold. The same without ViL blocks: 0.885. Per case: configs/results/hippocampus_folds.
"""

_base_ = [
    "../_base_/datasets/hippocampus.py",
    "../_base_/schedules/adamw_volumes.py",
    "../_base_/volumes_runtime.py",
]

model = dict(
    type="VolumeSegmentor",
    plan={{_base_.plan}},
    network=dict(type="ViLUNet3D", channels=(16, 32, 64, 96), depths=(0, 0, 4, 2), block="vil"),
)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=2500, val_interval=500)
