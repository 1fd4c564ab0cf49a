"""Fine-tunes the DeiT-III-T of deit3-t_800e-20e_in1k-224.py on 729 tokens, a patch every 8 px: 30 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/deit3-t-stride8_30e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 1: fine-tuning on long sequences.
Expected: 78.3 % top-1.
Result:   Not run yet.
"""

_base_ = "./vil-t-plus-stride8_30e_in1k-224.py"

model = dict(
    variant="deit3-tiny",
    head_norm=False,
    post_norm_eps=1e-06,
    init_cfg=dict(checkpoint="work_dirs/deit3-t_800e-20e_in1k-224/epoch_20.pth"),
)
