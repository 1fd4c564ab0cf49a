"""The equal budget of the comparison: 1500 steps of two patches, about 40 minutes of one CPU core for ViLUNet3D."""

_base_ = ["adamw_volumes.py"]

optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=1500, val_interval=500)
