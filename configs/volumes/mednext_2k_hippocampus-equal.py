"""Trains MONAI's MedNeXt with three downsamplings.

Command:  python tools/train.py configs/volumes/mednext_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, patches, steps and seed.
Result:   Not run yet.
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
