"""Trains ViL-T (v1) to classify ImageNet-1K from the mean of first and last token: 400 epochs at 192 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/pooling/vil-t_bilateral-average_400e_in1k-192.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 3.
Expected: 75.9 % top-1; about 19 h on 8 x A100 (150 A100 hours, from the paper's table 4).
          The authors fine-tune these runs at 224 px, too, and do not say which of the two the table reports.
Result:   Not run yet.
"""

_base_ = [
    "../../_base_/models/classifier.py",
    "../../_base_/datasets/imagenet_192.py",
    "../../_base_/schedules/imagenet.py",
    "../../_base_/runtime_epochs.py",
]

model = dict(grid=(12, 12), pooling="bilateral-average")
