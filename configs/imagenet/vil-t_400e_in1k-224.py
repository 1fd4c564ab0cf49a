"""ViL-T (v1) on ImageNet-1K, 400 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t_400e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-t_400e_in1k-224.py --launcher slurm
Test:     python tools/test.py configs/imagenet/vil-t_400e_in1k-224.py vil_tiny16_e400_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_tiny16_e400_in1k.th, 76.1 %
Paper:    76.1 % top-1 (the authors' README).
Hardware: 8 x A100, about 25 h (200 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]
