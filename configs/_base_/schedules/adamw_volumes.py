"""Sets AdamW for volumes: short warm-up, polynomial rate to zero at `max_iters`, gradients clipped.

A cosine in its place: dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=50).
"""

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="ViLLayerDecay",
    paramwise_cfg=dict(layer_decay_rate=1.0),
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=12.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="PolyLR", eta_min=0.0, power=0.9, by_epoch=False, begin=50),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000, val_interval=500)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
