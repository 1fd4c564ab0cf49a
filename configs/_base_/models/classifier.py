"""Builds a ViL-T (v1) classifier for 1000 classes; mixes batches by mixup 0.8 or cutmix 1.0, as the paper does."""

model = dict(
    type="ImageClassifier",
    variant="vil-tiny",
    num_classes=1000,
    grid=(14, 14),
    data_preprocessor=dict(
        type="PicturePreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        mixup=0.8,
        cutmix=1.0,
    ),
)
