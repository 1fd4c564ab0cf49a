"""Trains ViL-S (v2) on ImageNet-1K: 400 epochs at 192 px, batch 2048.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-s_400e_in1k-192.py --launcher pytorch
Source:   the authors' files for ViL v2 (later versions of the ViL paper).
Expected: 80.5 % top-1 at 192 px (the authors' log); about 32 h on 8 x A100 (260 A100 hours, from the paper's table 4).
Result:   Not run yet.
"""

_base_ = "./vil2-t_400e_in1k-192.py"

model = dict(variant="vil2-small", drop_path=0.05, drop_path_form="subset")
