"""ViL-T (v1) on ImageNet-1K.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/vil_imagenet.py --launcher pytorch
Result:   to be measured.
"""

_base_ = [
    "_base_/models/classifier.py",
    "_base_/datasets/imagenet.py",
    "_base_/schedules/imagenet.py",
    "_base_/runtime_epochs.py",
]

train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=800)
