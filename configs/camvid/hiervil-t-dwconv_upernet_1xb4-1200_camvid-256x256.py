"""Trains the convolution control of hiervil-t_upernet_1xb4-1200_camvid-256x256.py: ViL blocks without their mLSTM.

Command:  python tools/train.py configs/camvid/hiervil-t-dwconv_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe. 5.8M parameters in the backbone, HierViL-T has 6.1M; all else is the same.
Result:   mIoU 52.32, aAcc 85.99 after 1200 steps, one seed; one CPU core (float32). HierViL-T with ViL blocks: 46.32. Per class and
          curves: configs/results/hiervil-t-dwconv_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = "./hiervil-t_upernet_1xb4-1200_camvid-256x256.py"

model = dict(backbone=dict(sequence="dwconv"))
