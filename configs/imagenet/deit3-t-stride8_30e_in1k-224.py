"""DeiT-III-T fine-tuned on long sequences: patches every 8 px, 729 tokens at 224 px; 30 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t-stride8_30e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/deit3-t-stride8_30e_in1k-224.py --launcher slurm
Weights:  model.init_cfg.checkpoint, a run of configs/imagenet/deit3-t_800e-20e_in1k-224.py.
Paper:    78.3 % top-1 (table 1).
Hardware: 8 x A100, to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_stride8.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    variant="deit3-tiny",
    head_norm=False,
    post_norm_eps=1e-06,
    stride=8,
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/deit3-t_800e-20e_in1k-224/epoch_20.pth"),
)
