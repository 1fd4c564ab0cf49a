"""A small ViL + UperNet on CamVid from random weights; the control of configs/vil_upernet_camvid_transfer.py.

Command:  python tools/train.py configs/vil_upernet_camvid_scratch.py --resume --cfg-options randomness.seed=0
Result:   seeds 0, 1, 2: mIoU 19.36, 19.99, 19.88; see configs/vil_upernet_camvid_transfer.py.
"""

_base_ = ["_base_/camvid_small.py"]
