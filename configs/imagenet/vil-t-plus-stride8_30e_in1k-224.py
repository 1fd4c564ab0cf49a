"""ViL-T+ (v1) fine-tuned on long sequences: patches every 8 px, 729 tokens at 224 px; 30 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t-plus-stride8_30e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-t-plus-stride8_30e_in1k-224.py --launcher slurm
Weights:  model.init_cfg.checkpoint, a run of configs/imagenet/vil-t-plus_800e_in1k-224.py or a published file.
Paper:    80.0 % top-1 (table 1).
Hardware: 8 x A100, to be measured; 729 tokens in place of 196 take about 3.7 times a pretraining epoch.
          The authors' hub entry for this model loads weights that were not trained on long sequences.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_stride8.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    variant="vil-tinyplus",
    stride=8,
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil-t-plus_800e_in1k-224/epoch_800.pth"),
)
