"""Trains MONAI's MedNeXt with three downsamplings.

Command:  python tools/train.py configs/volumes/mednext_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Dice 0.883 (0.891, 0.875), HD95 1.48 mm, NSD 0.944; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.001 below the ViLUNet3D twin, paired over cases, p 0.74. Without
          VolumeClassPriorHook in custom_hooks, as the others. Per case: configs/results/hippocampus_small/mednext.csv.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

model = dict(
    network=dict(
        _delete_=True,
        type="MedNeXt",
        init_filters=24,
        kernel_size=3,
        blocks_down=[2, 2, 2],
        blocks_bottleneck=2,
        blocks_up=[2, 2, 2],
        use_residual_connection=True,
        deep_supervision=True,
    ),
)
