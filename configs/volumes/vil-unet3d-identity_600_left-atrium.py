"""Trains the control without sequence blocks on left atria at 2 mm: 600 steps of two patches.

Command:  python tools/train.py configs/volumes/vil-unet3d-identity_600_left-atrium.py
Source:   our own comparison; all parts but the blocks are those of its twin.
Twin:     configs/volumes/vil-unet3d_600_left-atrium.py: same trainer, patches, steps and seed.
Result:   20 held-out cases: Dice 0.873, HD95 6.56 mm, NSD 0.442 at 1 mm; one seed, 4 minutes of one CPU core (float32),
          before VolumeClassPriorHook. Dice 0.003 below the ViL twin, paired over cases, p 0.15; HD95 0.67 mm above, p 0.02.
          Per case and curves: configs/results/vil-unet3d-identity_600_left-atrium.
"""

_base_ = "vil-unet3d_600_left-atrium.py"

model = dict(network=dict(block="identity"))
