"""Trains ViLUNETR3D, with all its blocks on tokens at 1/4 resolution.

Command:  python tools/train.py configs/volumes/vil-unetr3d_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Dice 0.881 (0.889, 0.872), HD95 1.48 mm, NSD 0.945; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.003 below the ViLUNet3D twin, paired over cases, p 0.04.
          Per case: configs/results/hippocampus_small/unetr3d.csv.
          Measured before VolumeClassPriorHook was the default.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

model = dict(
    network=dict(_delete_=True, type="ViLUNETR3D", channels=(8, 24), dim=64, depth=8, deep_supervision=2),
)
