"""ViL-S (v1) on ImageNet-1K, 400 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-s_400e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-s_400e_in1k-224.py --launcher slurm
Test:     python tools/test.py configs/imagenet/vil-s_400e_in1k-224.py vil_small16_e400_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_small16_e400_in1k.th, 80.7 %
Paper:    80.7 % top-1 (table 1).
Hardware: 8 x A100, about 44 h (350 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil-small", drop_path=0.05, drop_path_form="subset")
