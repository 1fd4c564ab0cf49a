"""Trains hiervil-t-dwconv_upernet_1xb4-1200_camvid-256x256.py, the best of its four, for eight times the steps.

Command:  python tools/train.py configs/camvid/hiervil-t-dwconv_upernet_1xb4-9600_camvid-256x256.py
Source:   our own recipe.
Result:   Not run yet.
"""

_base_ = "./hiervil-t-dwconv_upernet_1xb4-1200_camvid-256x256.py"

train_cfg = dict(max_iters=9600, val_interval=1200)
