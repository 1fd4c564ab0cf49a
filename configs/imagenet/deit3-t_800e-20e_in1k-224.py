"""DeiT-III-T fine-tuned at 224 px after 192 px (table 6): 20 epochs, batch 1024, 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t_800e-20e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/deit3-t_800e-20e_in1k-224.py --launcher slurm
Weights:  model.init_cfg.checkpoint, a run of configs/imagenet/deit3-t_800e_in1k-192.py.
Paper:    76.2 % top-1 (table 1).
Hardware: 8 x A100, to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_finetune.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    variant="deit3-tiny",
    head_norm=False,
    post_norm_eps=1e-06,
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/deit3-t_800e_in1k-192/epoch_800.pth"),
)
