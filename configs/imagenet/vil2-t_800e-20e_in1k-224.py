"""ViL-T (v2) fine-tuned at 224 px after 192 px: 20 epochs, batch 1024, 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-t_800e-20e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil2-t_800e-20e_in1k-224.py --launcher slurm
Weights:  model.init_cfg.checkpoint, a run of configs/imagenet/vil2-t_800e_in1k-192.py.
Test:     python tools/test.py configs/imagenet/vil2-t_800e-20e_in1k-224.py vil2_tiny16_e800_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil2_tiny16_e800_in1k.th, 78.3 %
Paper:    78.3 % top-1 (later versions of the paper).
Hardware: 8 x A100, about 1.2 h (10 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_finetune.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    variant="vil2-tiny", init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil2-t_800e_in1k-192/epoch_800.pth")
)
