"""ViL-B (v1) fine-tuned on long sequences: patches every 8 px, 729 tokens at 224 px; 30 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-b-stride8_30e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil-b-stride8_30e_in1k-224.py --launcher slurm
Weights:  model.init_cfg.checkpoint, a run of configs/imagenet/vil-b_400e_in1k-224.py or a published file.
Test:     python tools/test.py configs/imagenet/vil-b-stride8_30e_in1k-224.py vil_base16_e400_in1k_stride8.th
          published: https://ml.jku.at/research/vision_lstm/download/vil_base16_e400_in1k_stride8.th, 82.7 %
Paper:    82.7 % top-1 (table 1).
Hardware: 8 x A100, to be measured; 729 tokens in place of 196 take about 3.7 times a pretraining epoch.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_stride8.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    variant="vil-base",
    stride=8,
    drop_path=0.2,
    drop_path_form="subset",
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil-b_400e_in1k-224/epoch_400.pth"),
)
