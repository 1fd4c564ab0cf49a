"""Trains the control without sequence blocks on left atria at 2 mm: 600 steps of two patches.

Command:  python tools/train.py configs/volumes/vil-unet3d-identity_600_left-atrium.py
Source:   our own comparison; all parts but the blocks are those of its twin.
Twin:     configs/volumes/vil-unet3d_600_left-atrium.py: same trainer, patches, steps and seed.
Result:   Not run yet.
"""

_base_ = "vil-unet3d_600_left-atrium.py"

model = dict(network=dict(block="identity"))
