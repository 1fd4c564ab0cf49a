"""Fine-tunes the ViL-S+ (v1) of vil-s-plus_400e_in1k-224.py on 729 tokens, a patch every 8 px: 30 epochs, batch 1024.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/imagenet/vil-s-plus-stride8_30e_in1k-224.py --launcher pytorch
Source:   ViL paper (arXiv 2406.04303v1), table 1: fine-tuning on long sequences.
Expected: 82.2 % top-1; 729 tokens in place of 196 take about 3.7 times a pretraining epoch.
Weights:  published, https://ml.jku.at/research/vision_lstm/download/vil_smallplus16_e400_in1k_stride8.th
Result:   Not run yet.
"""

_base_ = "./vil-t-plus-stride8_30e_in1k-224.py"

model = dict(
    variant="vil-smallplus",
    drop_path=0.05,
    drop_path_form="subset",
    init_cfg=dict(checkpoint="work_dirs/vil-s-plus_400e_in1k-224/epoch_400.pth"),
)
