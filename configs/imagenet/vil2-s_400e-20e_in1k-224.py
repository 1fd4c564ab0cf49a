"""ViL-S (v2) fine-tuned at 224 px after 192 px: 20 epochs, batch 1024, 1e-5.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil2-s_400e-20e_in1k-224.py --launcher pytorch
Slurm:    srun -n 8 -G 8 -c 10 python tools/train.py configs/imagenet/vil2-s_400e-20e_in1k-224.py --launcher slurm
Weights:  model.init_cfg.checkpoint, a run of configs/imagenet/vil2-s_400e_in1k-192.py.
Test:     python tools/test.py configs/imagenet/vil2-s_400e-20e_in1k-224.py vil2_small16_e400_in1k.th
          published: https://ml.jku.at/research/vision_lstm/download/vil2_small16_e400_in1k.th, 81.5 %
Paper:    81.5 % top-1 (later versions of the paper).
Hardware: 8 x A100, about 2.1 h (17 A100 hours, from the paper's table 4); ours to be measured.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet_finetune.py",
    "../_base_/runtime_epochs.py",
]

model = dict(
    variant="vil2-small",
    drop_path=0.05,
    drop_path_form="subset",
    init_cfg=dict(type="Pretrained", checkpoint="work_dirs/vil2-s_400e_in1k-192/epoch_400.pth"),
)
