"""Trains the control with attention blocks of ViL's size.

Command:  python tools/train.py configs/volumes/vil-unet3d-attention_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Dice 0.884 (0.892, 0.876), HD95 1.54 mm, NSD 0.945; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.000 below the ViL twin, paired over cases, p 0.68.
          Per case: configs/results/hippocampus_small/attention.csv.
          Measured before VolumeClassPriorHook was the default.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

model = dict(network=dict(block="attention"))
