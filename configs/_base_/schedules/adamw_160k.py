"""Sets the ViL paper's ADE20K schedule: 160k steps, AdamW 5e-4, layer decay 0.65, warm-up 1500, cosine to 1e-6.

The first rate is 5e-4 / 1501, as in the authors' code. The cosine's floor is a ratio (1e-6 / 5e-4), so that every layer's rate falls by the same factor.
"""

optim_wrapper = dict(
    type="OptimWrapper",
    constructor="ViLLayerDecay",
    paramwise_cfg=dict(layer_decay_rate=0.65, blocks_per_layer=2),
    optimizer=dict(type="AdamW", lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1 / 1501, by_epoch=False, begin=0, end=1500),
    dict(type="CosineAnnealingLR", eta_min_ratio=0.002, by_epoch=False, begin=1500),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=160000, val_interval=16000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
compile_blocks = False  # True fuses the blocks with torch.compile, which takes minutes at the start
