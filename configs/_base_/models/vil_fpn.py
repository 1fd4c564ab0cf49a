"""Replaces UperNet's head by that of Semantic FPN: each map is upsampled step by step to stride 4, and all are added.

With `neck=None` all maps have one stride: `feature_strides=[16] * 4`.
"""

_base_ = "vil_upernet.py"

model = dict(
    decode_head=dict(
        _delete_=True,
        type="FPNHead",
        in_channels=[_base_.dim] * 4,
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=128,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    )
)
