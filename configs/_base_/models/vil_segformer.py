"""Replaces UperNet's head by SegFormer's: the maps are projected, resized to the first one and concatenated."""

_base_ = "vil_upernet.py"

model = dict(
    decode_head=dict(
        _delete_=True,
        type="SegformerHead",
        in_channels=[_base_.dim] * 4,
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    )
)
