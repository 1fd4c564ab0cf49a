"""Trains ViL-B (v1) on ImageNet-1K: 400 epochs at 224 px, batch 2048.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-b_400e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 5.
Expected: 81.6 % top-1 (table 1); about 75 h on 8 x A100 80 GB (600 A100 hours by the paper, 19 h on 32 of them).
Memory:   on cards of 40 GB with model.with_cp=True, or half the batch and optim_wrapper.accumulative_counts=2.
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil_base16_e400_in1k.th
Result:   Not run yet.
"""

_base_ = "./vil-t_400e_in1k-224.py"

model = dict(variant="vil-base", drop_path=0.2, drop_path_form="subset")
train_dataloader = dict(batch_size=256)
