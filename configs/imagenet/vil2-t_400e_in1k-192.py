"""ViL-T (v2) on ImageNet-1K, 400 epochs at 192 px, batch 2048; configs/imagenet/vil2-t_400e-20e_in1k-224.py goes on.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-t_400e_in1k-192.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil2-t_400e_in1k-192.py --launcher slurm
Paper:    75.9 % top-1 at 192 px (the authors' log).
Hardware: 8 x A100, about 19 h (150 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_192.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil2-tiny", grid=(12, 12))
train_dataloader = dict(batch_size=256)
