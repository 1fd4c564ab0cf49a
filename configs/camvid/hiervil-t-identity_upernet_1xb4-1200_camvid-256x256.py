"""Trains the control without sequence blocks of hiervil-t_upernet_1xb4-1200_camvid-256x256.py: no blocks at strides 16 and 32.

Command:  python tools/train.py configs/camvid/hiervil-t-identity_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe. 1.3M parameters in the backbone, HierViL-T has 6.1M; all else is the same.
Result:   seeds 0, 1, 2: mIoU 47.1, 48.0, 49.6 after 1200 steps; one CPU core (float32). HierViL-T with ViL blocks: 46.3, 49.0,
          47.5. Per class and curves of seed 0: configs/results/hiervil-t-identity_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = "./hiervil-t_upernet_1xb4-1200_camvid-256x256.py"

model = dict(backbone=dict(sequence="identity"))
