"""ViL-T (v1) on ImageNet-1K, 800 epochs at 224 px, batch 2048: the front door of the pretraining.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/vil_imagenet.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/vil_imagenet.py --launcher slurm
Test:     python tools/test.py configs/vil_imagenet.py vil_tiny16_e800_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_tiny16_e800_in1k.th, 77.3 %
          (as it is, or as tools/model_converters/convert_checkpoint.py writes it)
Paper:    77.3 % top-1 (table 1).
Hardware: 8 x A100, about 50 h (400 A100 hours, from the paper's table 4); ours to be measured.
Own data: --cfg-options train_dataloader.dataset.data_root=D val_dataloader.dataset.data_root=D model.num_classes=N
          with D/train/CLASS/*.jpg and D/val/CLASS/*.jpg. On one GPU the rate follows the batch.
Hours:    here and in configs/imagenet from table 4, read as ten epochs on one A100: that fits the 600 A100 hours
          that the paper gives for 400 epochs of ViL-B.
Node:     at that speed 8 A100s take 5,700 pictures/s. A core of a busy machine here made 140 a second from JPEGs
          of 500 x 375 px and 100 KB (tools/benchmark/benchmark_loader.py): 41 cores, so 8 workers a GPU, and 0.6 GB/s from
          disk or page cache. All other runs are slower on the GPUs, but for those at 128 px: 16 workers there.
All others: configs/imagenet; `python tools/analysis/model_table.py` prints them beside the paper.
Result:   to be measured.
"""

_base_ = [
    "_base_/models/classifier.py",
    "_base_/datasets/imagenet.py",
    "_base_/schedules/imagenet.py",
    "_base_/runtime_epochs.py",
]

train_dataloader = dict(batch_size=256)
train_cfg = dict(max_epochs=800)
