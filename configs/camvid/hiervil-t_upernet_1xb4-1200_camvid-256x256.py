"""Trains HierViL-T with UperNet on CamVid from scratch: 256 x 256 crops, batch 4, 1200 steps.

Command:  python tools/train.py configs/camvid/hiervil-t_upernet_1xb4-1200_camvid-256x256.py
Source:   our own recipe, for CPUs; data, schedule and width of the heads are those of vil2-t_upernet_1xb4-1200_camvid-256x256.py.
Result:   mIoU 35.90, aAcc 81.04 after 1200 steps, one seed; one CPU core (float32). Per class and
          curves: configs/results/hiervil-t_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = [
    "../_base_/models/hiervil_upernet.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/adamw_scratch.py",
    "../_base_/runtime.py",
]

channels = 64
loss = dict(avg_non_ignore=False)  # the mean over all pixels, as in the run of ViL-T
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(drop_path=0.05),
    decode_head=dict(channels=channels, num_classes=11, loss_decode=loss),
    auxiliary_head=dict(channels=channels, num_classes=11, loss_decode=loss),
    test_cfg=dict(_delete_=True, mode="whole"),
)
train_cfg = dict(max_iters=1200, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=200))
