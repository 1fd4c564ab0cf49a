"""Fine-tunes the ViL-B (v2) of vil2-b_400e_in1k-192.py at 224 px: 5 epochs, batch 1024, learning rate 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-b_400e-5e_in1k-224.py --launcher pytorch
Source:   the authors' files for ViL v2 (later versions of the ViL paper).
Expected: 82.4 % top-1; about 1.0 h on 8 x A100 (8 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil2_base16_e400_in1k.th
Result:   Not run yet.
"""

_base_ = "./vil2-t_400e-20e_in1k-224.py"

model = dict(
    variant="vil2-base",
    drop_path=0.2,
    drop_path_form="subset",
    init_cfg=dict(checkpoint="work_dirs/vil2-b_400e_in1k-192/epoch_400.pth"),
)
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=1, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=5)
