"""ViL-T+ (v1, 29 blocks) on ImageNet-1K, 800 epochs at 224 px, batch 2048.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t-plus_800e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-t-plus_800e_in1k-224.py --launcher slurm
Test:     python tools/test.py configs/imagenet/vil-t-plus_800e_in1k-224.py vil_tinyplus16_e800_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_tinyplus16_e800_in1k.th, 78.1 %
Paper:    78.1 % top-1 (table 1).
Hardware: 8 x A100, about 60 h (480 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil-tinyplus")
train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=800)
