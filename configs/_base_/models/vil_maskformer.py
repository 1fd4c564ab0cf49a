"""Replaces UperNet by a mask-classification head (MaskFormer, Mask2Former): queries predict masks and their classes.

The pixel decoder is a pyramid of plain convolutions, as in MaskFormer, without deformable attention; the layers of the
query decoder have masked attention, matching and point losses of Mask2Former. A config for few classes takes fewer
`num_queries`, and for small crops fewer `num_points`.
"""

_base_ = "vil_upernet.py"

model = dict(
    decode_head=dict(
        _delete_=True,
        type="MaskClassificationHead",
        in_channels=[_base_.dim] * 4,
        in_index=[0, 1, 2, 3],
        channels=256,
        num_queries=100,
        num_layers=9,
        num_heads=8,
        num_points=12544,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
    ),
    auxiliary_head=None,
)
