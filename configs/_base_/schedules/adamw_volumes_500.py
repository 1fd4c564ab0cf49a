"""The equal budget of the comparison: 500 steps of two patches, for seven networks on two CPU cores."""

_base_ = ["adamw_volumes.py"]

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=500, val_interval=500)
