"""Builds ViL-T (v2) with a decoder of four ViL blocks, which predicts the pixels of masked patches.

30 to 70 % of the patches of each picture are masked, as in MAP (arXiv 2410.00871).
"""

model = dict(
    type="MaskedImageModel",
    backbone=dict(type="ViL", variant="vil2-tiny", grid=(12, 12), out_indices=(-1,)),
    mask_ratio=(0.3, 0.7),
    decoder_depth=4,
    data_preprocessor=dict(type="PicturePreprocessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)
