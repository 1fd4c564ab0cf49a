"""ViL-B (v1) on ImageNet-1K, 400 epochs at 224 px, batch 2048.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-b_400e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-b_400e_in1k-224.py --launcher slurm
Test:     python tools/test.py configs/imagenet/vil-b_400e_in1k-224.py vil_base16_e400_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_base16_e400_in1k.th, 81.6 %
Paper:    81.6 % top-1 (table 1).
Hardware: 8 x A100 80 GB, about 75 h (600 A100 hours by the paper, 19 h on 32 of them); ours to be measured.
          Cards of 40 GB: with model.with_cp=True, or half the batch and optim_wrapper.accumulative_counts=2.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil-base", drop_path=0.2, drop_path_form="subset")
train_dataloader = dict(batch_size=256)
