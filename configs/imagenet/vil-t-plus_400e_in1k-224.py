"""Trains ViL-T+ (v1, 29 blocks) on ImageNet-1K: 400 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t-plus_400e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 5.
Expected: 77.2 % top-1 (appendix A.2); about 30 h on 8 x A100 (240 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil_tinyplus16_e400_in1k.th
Result:   Not run yet.
"""

_base_ = "./vil-t_400e_in1k-224.py"

model = dict(variant="vil-tinyplus")
