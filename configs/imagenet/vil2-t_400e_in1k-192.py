"""Trains ViL-T (v2) on ImageNet-1K: 400 epochs at 192 px, batch 2048.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-t_400e_in1k-192.py --launcher pytorch
Source:   the authors' files for ViL v2 (later versions of the ViL paper).
Expected: 75.9 % top-1 at 192 px (the authors' log); about 19 h on 8 x A100 (150 A100 hours, from the paper's table 4).
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_192.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil2-tiny", grid=(12, 12))
train_dataloader = dict(batch_size=256)
