"""Trains MONAI's DynUNet (nnU-Net's network) with ViLUNet3D's widths, strides and residual blocks.

Command:  python tools/train.py configs/volumes/dynunet_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Dice 0.881 (0.890, 0.873), HD95 1.47 mm, NSD 0.945; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.003 below the ViLUNet3D twin, paired over cases, p 0.22.
          Per case: configs/results/hippocampus_small/dynunet.csv.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

model = dict(
    network=dict(
        _delete_=True,
        type="DynUNet",
        kernel_size=[3, 3, 3, 3],
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2],
        filters=[8, 24, 64, 96],
        res_block=True,
        deep_supervision=True,
        deep_supr_num=2,
    ),
)
