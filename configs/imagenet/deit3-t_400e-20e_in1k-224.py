"""Fine-tunes the DeiT-III-T of deit3-t_400e_in1k-192.py at 224 px: 20 epochs, batch 1024, learning rate 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t_400e-20e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 6.
Expected: 75.6 % top-1 (appendix A.2).
Result:   Not run yet.
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
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/deit3-t_400e_in1k-192/epoch_400.pth"),
)
