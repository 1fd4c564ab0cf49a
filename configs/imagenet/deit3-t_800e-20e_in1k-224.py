"""Fine-tunes the DeiT-III-T of deit3-t_800e_in1k-192.py at 224 px: 20 epochs, batch 1024, learning rate 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t_800e-20e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 6.
Expected: 76.2 % top-1 (table 1).
Result:   Not run yet.
"""

_base_ = "./deit3-t_400e-20e_in1k-224.py"

model = dict(init_cfg=dict(checkpoint="work_dirs/deit3-t_800e_in1k-192/epoch_800.pth"))
