"""Trains ViL-T (v1) on ImageNet-1K: 400 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t_400e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 5.
Expected: 76.1 % top-1 (the authors' README); about 25 h on 8 x A100 (200 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil_tiny16_e400_in1k.th
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]
