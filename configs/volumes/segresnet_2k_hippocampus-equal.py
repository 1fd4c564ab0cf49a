"""Trains MONAI's SegResNet.

Command:  python tools/train.py configs/volumes/segresnet_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Dice 0.878 (0.887, 0.869), HD95 1.50 mm, NSD 0.944; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.006 below the ViLUNet3D twin, paired over cases, p 0.001.
          Per case: configs/results/hippocampus_small/segresnet.csv.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

model = dict(network=dict(_delete_=True, type="SegResNet", init_filters=8))
