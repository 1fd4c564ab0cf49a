"""DeiT-III-T, the control, on ImageNet-1K as in table 6: 400 epochs at 192 px, no clipping.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t_400e_in1k-192.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/deit3-t_400e_in1k-192.py --launcher slurm
Paper:    75.6 % top-1 after configs/imagenet/deit3-t_400e-20e_in1k-224.py.
Hardware: 8 x A100, to be measured.
          Batch 1024 is that of the authors' files; table 6 says 2048 (train_dataloader.batch_size=256).
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_192.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="deit3-tiny", head_norm=False, post_norm_eps=1e-06, grid=(12, 12))
optim_wrapper = dict(clip_grad=None)
