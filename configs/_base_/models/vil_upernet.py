"""ViL-T (v2) + UperNet as in the ViL paper's ADE20K experiments.

`neck` is a name: none, deconv (the paper's pyramid of strides 4 to 32) or bilinear; `norm_cfg` of type "auto" becomes
BatchNorm, SyncBN or GroupNorm when the run's world size and batch are known. Both are settled by the tools
(`vil_dense.mm.engine.settle`) and written out in full to the config in the work folder.

Taps are the outputs of blocks 7, 11, 15, 23 of 24, without a norm. Test pictures are padded on the right and the bottom
to a multiple of 32 and the logits cropped again, so that they lie where the picture is.
"""

dim = 192
norm_cfg = dict(type="auto")

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
    neck="deconv",
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
