"""Builds HierViL-T with UperNet for crops of 512 x 512.

The feature maps are those of the four stages, strides 4, 8, 16 and 32, each with a LayerNorm; no neck is needed.

All else is as in `vil_upernet.py`.
"""

_base_ = "vil_upernet.py"

dims = [48, 96, 192, 384]
model = dict(
    backbone=dict(_delete_=True, type="HierViL", variant="hiervil-tiny"),
    neck=None,
    decode_head=dict(in_channels=dims),
    auxiliary_head=dict(in_channels=dims[2]),
)
