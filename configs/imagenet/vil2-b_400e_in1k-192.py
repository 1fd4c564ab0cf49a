"""ViL-B (v2) on ImageNet-1K, 400 epochs at 192 px, batch 2048; configs/imagenet/vil2-b_400e-5e_in1k-224.py goes on.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-b_400e_in1k-192.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil2-b_400e_in1k-192.py --launcher slurm
Paper:    81.5 % top-1 at 192 px (the authors' log).
Hardware: 8 x A100, about 55 h (440 A100 hours, from the paper's table 4); ours to be measured.
          Cards of 40 GB: with model.with_cp=True, or half the batch and optim_wrapper.accumulative_counts=2.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_192.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil2-base", grid=(12, 12), drop_path=0.2, drop_path_form="subset")
train_dataloader = dict(batch_size=256)
