"""Trains ViL-T (v2) on ImageNet-1K: 800 epochs at 192 px, batch 2048.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-t_800e_in1k-192.py --launcher pytorch
Source:   the authors' files for ViL v2 (later versions of the ViL paper).
Expected: 77.0 % top-1 at 192 px (the authors' log); about 38 h on 8 x A100 (300 A100 hours, from the paper's table 4).
Result:   Not run yet.
"""

_base_ = "./vil2-t_400e_in1k-192.py"

train_cfg = dict(max_epochs=800)
