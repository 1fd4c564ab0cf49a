"""Trains the control without sequence blocks on left atria at 2 mm: 600 steps of two patches.

Command:  python tools/train.py configs/volumes/vil-unet3d-identity_600_left-atrium.py
Source:   our own comparison; all parts but the blocks are those of its twin.
Twin:     configs/volumes/vil-unet3d_600_left-atrium.py: same trainer, patches, steps and seed.
Result:   20 held-out cases: Dice 0.872, HD95 6.72 mm, NSD 0.436 at 1 mm; one seed, 4 minutes of one CPU core (float32).
          Three seeds: Dice 0.877, the ViL twin 0.885, paired over cases, p 2e-6.
          Per case and curves: configs/results/vil-unet3d-identity_600_left-atrium.
"""

_base_ = "vil-unet3d_600_left-atrium.py"

model = dict(network=dict(block="identity"))
