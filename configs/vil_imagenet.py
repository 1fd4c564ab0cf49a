"""Trains ViL-T (v1) on ImageNet-1K: 800 epochs at 224 px, batch 2048. Start here for pretraining.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/vil_imagenet.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/vil_imagenet.py --launcher slurm
Test:     python tools/test.py configs/vil_imagenet.py vil_tiny16_e800_in1k.th
Source:   ViL paper (arXiv 2406.04303v1), table 5.
Expected: 77.3 % top-1 (table 1); about 50 h on 8 x A100 (400 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil_tiny16_e800_in1k.th
Result:   Not run yet.
"""

_base_ = [
    "_base_/models/classifier.py",
    "_base_/datasets/imagenet.py",
    "_base_/schedules/imagenet.py",
    "_base_/runtime_epochs.py",
]

train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=800)
