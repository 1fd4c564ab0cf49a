"""Trains DeiT-III-T, the transformer control, on ImageNet-1K: 400 epochs at 192 px, batch 1024, no clipping.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t_400e_in1k-192.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 6.
Batch:    1024 as in the authors' files; table 6 says 2048 (train_dataloader.batch_size=256).
Expected: 75.6 % top-1 after deit3-t_400e-20e_in1k-224.py.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_192.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="deit3-tiny", head_norm=False, post_norm_eps=1e-06, grid=(12, 12))
optim_wrapper = dict(clip_grad=None)
