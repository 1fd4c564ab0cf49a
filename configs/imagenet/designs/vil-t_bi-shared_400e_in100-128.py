"""Trains ViL-T (v1) with the block design `bi-shared` on 100 ImageNet classes: 400 epochs at 128 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/designs/vil-t_bi-shared_400e_in100-128.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 2.
Expected: 73.3 % top-1, 1.9 times the run time of `uni`; about 1.5 h on 8 x A100 (12 A100 hours, from tables 2 and 4).
Result:   Not run yet.
"""

_base_ = "./vil-t_bi-alternating_400e_in100-128.py"

model = dict(direction="bi-shared")
