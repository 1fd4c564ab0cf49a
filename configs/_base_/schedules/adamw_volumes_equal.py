"""Sets the equal budget of the comparison: 2000 steps of two patches, for ten networks, each on one CPU core."""

_base_ = ["adamw_volumes.py"]

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=2000, val_interval=2000)
