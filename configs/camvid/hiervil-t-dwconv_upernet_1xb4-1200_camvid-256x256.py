"""Trains the convolution control of hiervil-t_upernet_1xb4-1200_camvid-256x256.py: ViL blocks without their mLSTM.

Command:  python tools/train.py configs/camvid/hiervil-t-dwconv_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe. 5.8M parameters in the backbone, HierViL-T has 6.1M; all else is the same.
Result:   seeds 0, 1, 2: mIoU 52.3, 55.0, 52.4 after 1200 steps; one CPU core (float32). HierViL-T with ViL blocks: 46.3, 49.0,
          47.5. Per class and curves of seed 0: configs/results/hiervil-t-dwconv_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = "./hiervil-t_upernet_1xb4-1200_camvid-256x256.py"

model = dict(backbone=dict(sequence="dwconv"))
