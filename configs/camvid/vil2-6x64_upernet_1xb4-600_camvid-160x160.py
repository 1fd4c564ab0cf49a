"""A small ViL + UperNet on CamVid from random weights; the control of configs/camvid/vil2-6x64-crops_upernet_1xb4-600_camvid-160x160.py.

Command:  python tools/train.py configs/camvid/vil2-6x64_upernet_1xb4-600_camvid-160x160.py --resume --cfg-options randomness.seed=0
Result:   seeds 0, 1, 2: mIoU 19.36, 19.99, 19.88; see configs/camvid/vil2-6x64-crops_upernet_1xb4-600_camvid-160x160.py.
"""

_base_ = ["_base_small.py"]
