"""Trains HierViL-T on ImageNet-1K: 300 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/hiervil-t_300e_in1k-224.py --launcher pytorch
Source:   our own recipe: that of ViL (arXiv 2406.04303v1, table 5) with the 300 epochs and 20 warm-up epochs that Swin, ConvNeXt and MambaVision share.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    _delete_=True,  # a pyramid has no grid of positions
    type="ImageClassifier",
    variant="hiervil-tiny",
    num_classes=1000,
    drop_path=0.05,
    data_preprocessor={{_base_.model.data_preprocessor}},
)
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=20, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=300)
