"""The block-design study of the ViL paper (table 2): ViL-T (v1), the first 100 classes of ImageNet, 128 px, 400 epochs.

A row sets `model.direction`. The paper's parameters and FLOPs hold at 224 px with 1000 classes: tools/analysis/model_table.py.
"""

_base_ = [
    "../../_base_/models/classifier.py",
    "../../_base_/datasets/imagenet100_128.py",
    "../../_base_/schedules/imagenet.py",
    "../../_base_/runtime_epochs.py",
]

model = dict(num_classes=100, grid=(8, 8))
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=50, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]
