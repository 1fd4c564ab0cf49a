"""Replaces UperNet's head by DeepLabV3+'s: dilated convolutions on the last map, refined by the first one."""

_base_ = "vil_upernet.py"

model = dict(
    decode_head=dict(
        _delete_=True,
        type="DepthwiseSeparableASPPHead",
        in_channels=_base_.dim,
        in_index=3,
        dilations=(1, 3, 6, 9),
        c1_in_channels=_base_.dim,
        c1_channels=48,
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    )
)
