"""Builds ViL-T (v2) with UperNet for crops of 512 x 512, as in the ViL paper's experiments on ADE20K.

The feature maps are the outputs of blocks 7, 11, 15 and 23 of 24, without a norm. The neck is the paper's pyramid of
strides 4 to 32 by transposed convolutions; `neck=None` leaves four maps of stride 16.

`tools/train.py` replaces SyncBN by BatchNorm for one process, and by GroupNorm for fewer than four pictures a step
(`vil_dense.mm.engine.resolve.config.resolve_norm`); the config in the work folder has the norm that was trained.

Test pictures are padded on the right and at the bottom to a multiple of 32. The logits are cropped again, so
logits and picture have the same size and position.
"""

dim = 192
norm_cfg = dict(type="SyncBN", requires_grad=True)

data_preprocessor = dict(
    type="SegDataPreProcessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(512, 512),
    test_cfg=dict(size_divisor=32),
)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=data_preprocessor,
    backbone=dict(type="ViL", variant="vil2-tiny", grid=(32, 32), out_indices=(7, 11, 15, 23)),
    neck=dict(type="Feature2Pyramid", embed_dim=dim, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type="UPerHead",
        in_channels=[dim] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=dim,
        dropout_ratio=0.0,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=dim,
        in_index=2,
        channels=dim,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
