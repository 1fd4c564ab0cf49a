"""Trains the transformer control of vil2-t_upernet_1xb4-1200_camvid-256x256.py: attention blocks in place of ViL's.

Command:  python tools/train.py configs/camvid/deit3-t_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe. Twelve transformer blocks have the parameters of ViL-T's 24; all else is the same.
Result:   mIoU 27.13, aAcc 69.07 after 1200 steps, one seed; about 25 minutes of one CPU core (float32). Per class and
          curves: configs/results/deit3-t_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = "./vil2-t_upernet_1xb4-1200_camvid-256x256.py"

model = dict(
    backbone=dict(
        variant="deit3-tiny",
        out_indices=(3, 5, 7, 11),  # after the same quarters of the network
        layerscale=None,  # starts at 1e-4 in DeiT-III, which would hold the control back in so short a run
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(blocks_per_layer=1))
