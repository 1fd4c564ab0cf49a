"""Trains ViLUNet3D on MSD Task04 Hippocampus, fold 0 (208 / 52 cases), on a budget for two CPU cores.

Command:  python tools/train.py configs/volumes/vil-unet3d_2500_hippocampus.py
ViL at 1/4 and 1/8 resolution: a patch has 1400 and 175 tokens there.
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   52 held-out cases: mean Dice 0.886 (Anterior 0.894, Posterior 0.879), HD95 1.46 mm, NSD 0.947 at 1 mm; none
          missed. Float32, 68 minutes on two CPU cores of a busy machine. Per case and curves:
          configs/results/vil-unet3d_2500_hippocampus.
          Measured before VolumeClassPriorHook was the default.
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
