"""Fine-tunes the ViL-S (v2) of vil2-s_400e_in1k-192.py at 224 px: 20 epochs, batch 1024, learning rate 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-s_400e-20e_in1k-224.py --launcher pytorch
Source:   the authors' files for ViL v2 (later versions of the ViL paper).
Expected: 81.5 % top-1; about 2.1 h on 8 x A100 (17 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil2_small16_e400_in1k.th
Result:   Not run yet.
"""

_base_ = "./vil2-t_400e-20e_in1k-224.py"

model = dict(
    variant="vil2-small",
    drop_path=0.05,
    drop_path_form="subset",
    init_cfg=dict(checkpoint="work_dirs/vil2-s_400e_in1k-192/epoch_400.pth"),
)
