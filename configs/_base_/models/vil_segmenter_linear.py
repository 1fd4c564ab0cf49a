"""Replaces UperNet by Segmenter's linear head: one layer on each token of the last block, without neck and norm."""

_base_ = "vil_upernet.py"

model = dict(
    neck=None,
    decode_head=dict(
        _delete_=True,
        type="FCNHead",
        in_channels=_base_.dim,
        in_index=3,
        channels=_base_.dim,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
    auxiliary_head=None,
)
