"""Replaces UperNet by PSPNet's pyramid of pools on the last map, without a neck."""

_base_ = "vil_upernet.py"

model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="PSPHead",
        in_channels=_base_.dim,
        in_index=3,
        pool_scales=(1, 2, 3, 6),
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
)
