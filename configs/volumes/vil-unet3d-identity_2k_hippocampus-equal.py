"""Trains the control without sequence blocks.

Command:  python tools/train.py configs/volumes/vil-unet3d-identity_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Dice 0.885 (0.894, 0.877), HD95 1.42 mm, NSD 0.948; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.001 above the ViL twin, paired over cases, p 0.40.
          Per case: configs/results/hippocampus_small/identity.csv.
          Measured before VolumeClassPriorHook was the default.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

model = dict(network=dict(block="identity"))
