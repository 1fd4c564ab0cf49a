"""Trains ViLUNet3D at the equal budget of the hippocampus comparison, fold 0.

Command:  python tools/train.py configs/volumes/vil-unet3d_2k_hippocampus-equal.py
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   Dice 0.884 (Anterior 0.893, Posterior 0.875), HD95 1.42 mm, NSD 0.948; 52 held-out cases, one seed, one
          CPU core, float32. No better than its control without sequence blocks (p 0.40); all ten: configs/results/README.md.
          Per case: configs/results/hippocampus_small/vil.csv.
          Measured before VolumeClassPriorHook was the default.
"""

_base_ = [
    "../_base_/models/vil_unet3d_small.py",
    "../_base_/datasets/hippocampus.py",
    "../_base_/schedules/adamw_volumes_equal.py",
    "../_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}})
