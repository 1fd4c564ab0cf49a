"""Sets AdamW from scratch on a small budget: one rate for all layers, short warm-up, cosine to zero at `max_iters`."""

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="ViLLayerDecay",
    paramwise_cfg=dict(layer_decay_rate=1.0, blocks_per_layer=2),
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=100),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
