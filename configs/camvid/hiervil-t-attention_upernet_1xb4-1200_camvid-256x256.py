"""Trains the attention control of hiervil-t_upernet_1xb4-1200_camvid-256x256.py: attention blocks in place of ViL's.

Command:  python tools/train.py configs/camvid/hiervil-t-attention_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe. 5.8M parameters in the backbone, HierViL-T has 6.1M; all else is the same.
Result:   seeds 0, 1, 2: mIoU 45.1, 46.9, 47.3 after 1200 steps; one CPU core (float32). HierViL-T with ViL blocks: 46.3, 49.0,
          47.5. Per class and curves of seed 0: configs/results/hiervil-t-attention_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = "./hiervil-t_upernet_1xb4-1200_camvid-256x256.py"

model = dict(backbone=dict(sequence="attention"))
