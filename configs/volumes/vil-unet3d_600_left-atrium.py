"""Trains a small ViLUNet3D on left atria at 2 mm: 600 steps of two patches, 80 cases to train, 20 to test.

Command:  python tools/dataset_converters/make_left_atrium.py CLONE/data
          python tools/train.py configs/volumes/vil-unet3d_600_left-atrium.py
Source:   our own recipe; the network is that of the equal budget on the hippocampus.
Result:   20 held-out cases: Dice 0.880, HD95 6.25 mm, NSD 0.444 at 1 mm; one seed, 6 minutes of one CPU core (float32).
          Three seeds: Dice 0.885, its control without blocks 0.877, paired over cases, p 2e-6.
          Per case and curves: configs/results/vil-unet3d_600_left-atrium.
"""

_base_ = [
    "../_base_/models/vil_unet3d_small.py",
    "../_base_/datasets/left_atrium.py",
    "../_base_/schedules/adamw_volumes.py",
    "../_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}})
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=200))
