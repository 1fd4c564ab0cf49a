"""Trains ViL-T (v1) to classify ImageNet-1K from first and last token, concatenated: 400 epochs at 192 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/pooling/vil-t_bilateral-concat_400e_in1k-192.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 3.
Expected: 76.4 % top-1; about 19 h on 8 x A100 (150 A100 hours, from the paper's table 4).
Result:   Not run yet.
"""

_base_ = "./vil-t_bilateral-average_400e_in1k-192.py"

model = dict(pooling="bilateral-concat")
