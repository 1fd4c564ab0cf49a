"""Trains ViL-T+ (v1, 29 blocks) on ImageNet-1K: 800 epochs at 224 px, batch 2048.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t-plus_800e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 5.
Expected: 78.1 % top-1 (table 1); about 60 h on 8 x A100 (480 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil_tinyplus16_e800_in1k.th
Result:   Not run yet.
"""

_base_ = "../vil_imagenet.py"

model = dict(variant="vil-tinyplus")
