"""Replaces UperNet by Segmenter's mask transformer on the tokens of the last block, without a neck."""

_base_ = "vil_upernet.py"

model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="SegmenterMaskTransformerHead",
        in_channels=_base_.dim,
        in_index=3,
        channels=_base_.dim,
        num_layers=2,
        num_heads=3,
        embed_dims=_base_.dim,
        dropout_ratio=0.0,
        num_classes=150,
        norm_cfg=dict(type="LN"),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
