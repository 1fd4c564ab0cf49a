"""The transformer control of vil2-t_upernet_1xb4-1200_camvid-256x256.py: attention blocks in place of ViL's, everything else the same.

Command:  python tools/train.py configs/camvid/deit3-t_upernet_1xb4-1200_camvid-256x256.py
Twelve transformer blocks have the parameters of ViL-T's 24; the feature_maps are the outputs of the same quarters.
Result:   mIoU 27.13, aAcc 69.07 after 1200 steps, one seed; about 25 minutes of one CPU core (float32). Per class and
          curves: configs/results/deit3-t_upernet_1xb4-1200_camvid-256x256.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/camvid.py",
    "../_base_/schedules/adamw_scratch.py",
    "../_base_/runtime.py",
]

channels = 64
loss = dict(avg_non_ignore=False)  # the mean over all pixels, as in the measured run
model = dict(
    data_preprocessor=dict(size=(256, 256)),
    backbone=dict(
        variant="deit3-tiny",
        grid=(16, 16),
        out_indices=(3, 5, 7, 11),
        layerscale=None,  # starts at 1e-4 in DeiT-III, which would hold the control back in so short a run
        drop_path=0.05,
        drop_path_decay=True,
    ),
    decode_head=dict(channels=channels, num_classes=11, loss_decode=loss),
    auxiliary_head=dict(channels=channels, num_classes=11, loss_decode=loss),
    test_cfg=dict(_delete_=True, mode="whole"),
)
optim_wrapper = dict(paramwise_cfg=dict(blocks_per_layer=1))
train_cfg = dict(max_iters=1200, val_interval=400)
default_hooks = dict(checkpoint=dict(interval=200))
