"""Block design quad-alternating (table 2): ViL-T (v1), 100 classes, 128 px, 400 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/designs/vil-t_quad-alternating_400e_in100-128.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/designs/vil-t_quad-alternating_400e_in100-128.py --launcher slurm
Paper:    75.6 % top-1, run time 1.9 times that of uni.
Hardware: 8 x A100, about 1.5 h (12 A100 hours, from the paper's tables 2 and 4); ours to be measured.
Result:   to be measured.
"""

_base_ = ["_base_.py"]

model = dict(direction="quad-alternating")
