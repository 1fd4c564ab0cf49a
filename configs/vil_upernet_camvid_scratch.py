"""A small ViL + UperNet on CamVid from random weights; the control of configs/vil_upernet_camvid_transfer.py.

Command:  python tools/train.py configs/vil_upernet_camvid_scratch.py --resume --cfg-options randomness.seed=0
Result:   to be measured.
"""

_base_ = ["_base_/camvid_small.py"]
