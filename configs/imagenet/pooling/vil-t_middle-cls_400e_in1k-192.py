"""Classification design middle-cls (table 3): ViL-T (v1), 192 px, 400 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/pooling/vil-t_middle-cls_400e_in1k-192.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/pooling/vil-t_middle-cls_400e_in1k-192.py --launcher slurm
Paper:    75.3 % top-1, from a CLS token in the middle.
Hardware: 8 x A100, about 19 h (150 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = ["_base_.py"]

model = dict(pooling="middle-cls")
