"""Trains the control without sequence blocks of hiervil-t_upernet_1xb4-1200_camvid-256x256.py: no blocks at strides 16 and 32.

Command:  python tools/train.py configs/camvid/hiervil-t-identity_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe. 1.3M parameters in the backbone, HierViL-T has 6.1M; all else is the same.
Result:   Not run yet.
"""

_base_ = "./hiervil-t_upernet_1xb4-1200_camvid-256x256.py"

model = dict(backbone=dict(sequence="identity"))
