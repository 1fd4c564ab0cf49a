"""Trains ViL-T (v1) with the block design `bi-alternating` on 100 ImageNet classes: 400 epochs at 128 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/designs/vil-t_bi-alternating_400e_in100-128.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 2: its parameters and FLOPs hold at 224 px with 1000 classes.
Expected: 74.8 % top-1, 1.0 times the run time of `uni`; about 0.9 h on 8 x A100 (7 A100 hours, from tables 2 and 4).
Result:   Not run yet.
"""

_base_ = [
    "../../_base_/models/classifier.py",
    "../../_base_/datasets/imagenet100_128.py",
    "../../_base_/schedules/imagenet.py",
    "../../_base_/runtime_epochs.py",
]

model = dict(num_classes=100, grid=(8, 8), direction="bi-alternating")
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=50, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]
