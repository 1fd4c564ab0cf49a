"""ViL-T+ (v1, 29 blocks) on ImageNet-1K, 400 epochs at 224 px, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t-plus_400e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-t-plus_400e_in1k-224.py --launcher slurm
Test:     python tools/test.py configs/imagenet/vil-t-plus_400e_in1k-224.py vil_tinyplus16_e400_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_tinyplus16_e400_in1k.th, 77.2 %
Paper:    77.2 % top-1 (appendix A.2).
Hardware: 8 x A100, about 30 h (240 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil-tinyplus")
