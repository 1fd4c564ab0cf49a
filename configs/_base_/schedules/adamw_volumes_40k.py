"""Sets training on one GPU: 40k steps, bfloat16 there and float32 elsewhere."""

_base_ = ["adamw_volumes.py"]

optim_wrapper = dict(type="AmpOptimWrapper", dtype="bfloat16", optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(type="PolyLR", eta_min=0.0, power=0.9, by_epoch=False, begin=1000),
]
train_cfg = dict(max_iters=40000, val_interval=2000)
