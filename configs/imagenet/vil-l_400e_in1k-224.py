"""Trains ViL-L (v1, 48 blocks of 1024 channels) at 224 px, batch 512, to measure the time of a step.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-l_400e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 4; stochastic depth is ViL-B's, the authors' is not published.
Expected: 2.7 times the time of ViL-B (table 4: 45.1 h, against T 5.0, S 8.7, B 16.6); no accuracy is published.
Measure:  a few hundred steps on 8 x A100 80 GB; take the log's time of a step after the first hundred, times 2502
          steps an epoch. All 400 epochs would take about 1800 A100 hours.
Result:   Not run yet.
"""

_base_ = "./vil-b_400e_in1k-224.py"

model = dict(variant="vil-large")
train_dataloader = dict(batch_size=64)
