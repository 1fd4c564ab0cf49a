"""Replaces UperNet by two convolutions on the last map, without a neck and an auxiliary head."""

_base_ = "vil_upernet.py"

model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_channels=_base_.dim,
        in_index=3,
        channels=256,
        num_convs=2,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
