"""ViL-S+ (v1, 26 blocks) on ImageNet-1K, 400 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-s-plus_400e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-s-plus_400e_in1k-224.py --launcher slurm
Test:     python tools/test.py configs/imagenet/vil-s-plus_400e_in1k-224.py vil_smallplus16_e400_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_smallplus16_e400_in1k.th, 80.9 %
Paper:    80.9 % top-1 (table 1, which says 26M parameters; 26 blocks of 384 channels have 24.6M).
Hardware: 8 x A100, about 48 h (380 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil-smallplus", drop_path=0.05, drop_path_form="subset")
