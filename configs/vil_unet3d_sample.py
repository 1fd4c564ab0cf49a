"""Trains a small ViLUNet3D on the synthetic sample of volumes: `make train CONFIG=configs/vil_unet3d_sample.py`.

Command:  python tools/dataset_converters/make_phantom.py && python tools/train.py configs/vil_unet3d_sample.py
ViL at strides 4x4x2 (1152 tokens of a patch) and 8x8x4 (144): voxels are 2 x 2 x 5 mm, so the first scale halves two axes.
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   Dice 0.767 on the 6 held-out volumes: liver 0.992, spleen 0.972, vessel 0.967, gland 0.138 (0 without
          VolumeClassPriorHook; a thousandth of the voxels of a patch). Float32, 90 seconds of one CPU core. Per case:
          configs/results/vil_unet3d_sample.
"""

_base_ = [
    "_base_/models/vil_unet3d_small.py",
    "_base_/datasets/phantom.py",
    "_base_/schedules/adamw_volumes.py",
    "_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}}, network=dict(channels=(8, 16, 32, 64)))
optim_wrapper = dict(optimizer=dict(lr=3e-3))
train_cfg = dict(max_iters=300, val_interval=150)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=150))
