"""Trains DeiT-III-T, the transformer control, on ImageNet-1K: 800 epochs at 192 px, batch 1024, no clipping.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t_800e_in1k-192.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 6.
Batch:    1024 as in the authors' files; table 6 says 2048 (train_dataloader.batch_size=256).
Expected: 76.2 % top-1 after deit3-t_800e-20e_in1k-224.py.
Result:   Not run yet.
"""

_base_ = "./deit3-t_400e_in1k-192.py"

train_cfg = dict(max_epochs=800)
