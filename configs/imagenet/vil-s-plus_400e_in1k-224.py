"""Trains ViL-S+ (v1, 26 blocks) on ImageNet-1K: 400 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-s-plus_400e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 5.
Expected: 80.9 % top-1 (table 1, which says 26M parameters; 26 blocks of 384 channels have 24.6M);
          about 48 h on 8 x A100 (380 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil_smallplus16_e400_in1k.th
Result:   Not run yet.
"""

_base_ = "./vil-s_400e_in1k-224.py"

model = dict(variant="vil-smallplus")
