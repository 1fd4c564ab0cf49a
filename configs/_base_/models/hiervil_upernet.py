"""Replaces ViL-T and its neck by HierViL-T, whose four stages are a pyramid of strides 4, 8, 16 and 32.

Each map has a LayerNorm. Heads, norm, padding and cropping are those of `vil_upernet.py`.
"""

_base_ = "vil_upernet.py"

dims = [48, 96, 192, 384]
model = dict(
    backbone=dict(_delete_=True, type="HierViL", variant="hiervil-tiny"),
    neck=None,
    decode_head=dict(in_channels=dims),
    auxiliary_head=dict(in_channels=dims[2]),
)
