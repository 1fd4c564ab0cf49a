"""Fine-tunes the ViL-T (v2) of vil2-t_400e_in1k-192.py at 224 px: 20 epochs, batch 1024, learning rate 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-t_400e-20e_in1k-224.py --launcher pytorch
Source:   the authors' files for ViL v2 (later versions of the ViL paper).
Expected: 77.2 % top-1; about 1.2 h on 8 x A100 (10 A100 hours, from the paper's table 4).
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil2_tiny16_e400_in1k.th
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_finetune.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    variant="vil2-tiny",
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil2-t_400e_in1k-192/epoch_400.pth"),
)
