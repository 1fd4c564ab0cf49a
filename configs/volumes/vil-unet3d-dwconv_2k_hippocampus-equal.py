"""Trains the control of ViL's size without the mLSTM: gated 3 x 3 x 3 depthwise convolutions in its blocks.

Command:  python tools/train.py configs/volumes/vil-unet3d-dwconv_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Dice 0.887 (0.895, 0.878), HD95 1.43 mm, NSD 0.950; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.002 above the ViL twin, paired over cases, p 0.02.
          Per case: configs/results/hippocampus_small/dwconv.csv.
          Measured before VolumeClassPriorHook was the default.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

model = dict(network=dict(block="dwconv"))
