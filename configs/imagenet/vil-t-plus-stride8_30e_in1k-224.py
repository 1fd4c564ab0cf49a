"""Fine-tunes the ViL-T+ (v1) of vil-t-plus_800e_in1k-224.py on 729 tokens, a patch every 8 px: 30 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-t-plus-stride8_30e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 1: fine-tuning on long sequences.
Expected: 80.0 % top-1; 729 tokens in place of 196 take about 3.7 times a pretraining epoch.
          The authors' hub entry for this model loads weights that were not trained on long sequences.
Result:   Not run yet.
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
