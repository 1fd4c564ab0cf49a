"""ViL-L (v1, 48 blocks of 1024 channels) at 224 px, for the run time (table 4): no accuracy is published.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-l_400e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-l_400e_in1k-224.py --launcher slurm
Paper:    45.1 h against T 5.0, S 8.7, B 16.6; 2.7 times B.
Hardware: 8 x A100 80 GB for a few hundred steps.
Time:     the log's time of a step after the first hundred, 1.28M / 512 steps an epoch.
          Stochastic depth is B's, for want of the authors'; 400 epochs would take about 1800 A100 hours.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

model = dict(variant="vil-large", drop_path=0.2, drop_path_form="subset")
train_dataloader = dict(batch_size=64)
