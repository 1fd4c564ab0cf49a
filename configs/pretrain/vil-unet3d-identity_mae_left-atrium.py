"""Trains the control without sequence blocks without labels on the 80 left atria of the training list.

Command:  python tools/train.py configs/pretrain/vil-unet3d-identity_mae_left-atrium.py
Source:   our own comparison; all parts but the blocks are those of its twin.
Twin:     configs/pretrain/vil-unet3d_mae_left-atrium.py: same masks, patches, steps and seed.
Result:   loss 0.279 on the masked places at step 1200, from 0.444 at step 40; 6 minutes of one CPU core (float32). No gain
          after fine-tuning: configs/results/README.md, Left atrium. Reconstructions: configs/results/vil-unet3d-identity_mae_left-atrium.
"""

_base_ = "vil-unet3d_mae_left-atrium.py"

model = dict(network=dict(block="identity"))
