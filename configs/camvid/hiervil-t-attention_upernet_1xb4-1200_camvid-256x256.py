"""Trains the attention control of hiervil-t_upernet_1xb4-1200_camvid-256x256.py: attention blocks in place of ViL's.

Command:  python tools/train.py configs/camvid/hiervil-t-attention_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe. 5.8M parameters in the backbone, HierViL-T has 6.1M; all else is the same.
Result:   mIoU 45.11, aAcc 79.65 after 1200 steps, one seed; one CPU core (float32). HierViL-T with ViL blocks: 46.32. Per class and
          curves: configs/results/hiervil-t-attention_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = "./hiervil-t_upernet_1xb4-1200_camvid-256x256.py"

model = dict(backbone=dict(sequence="attention"))
