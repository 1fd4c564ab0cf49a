"""The classification designs of the ViL paper (table 3): ViL-T (v1), ImageNet-1K at 192 px, 400 epochs, batch 1024.

A row sets `model.pooling`. The authors have a fine-tuning at 224 px for these runs too and do not say which of the two
the table reports.
"""

_base_ = [
    "../../_base_/models/classifier.py",
    "../../_base_/datasets/imagenet_192.py",
    "../../_base_/schedules/imagenet.py",
    "../../_base_/runtime_epochs.py",
]

model = dict(grid=(12, 12))
