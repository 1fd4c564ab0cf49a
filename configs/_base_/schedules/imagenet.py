"""Sets ImageNet pretraining (ViL paper, table 5): AdamW 1e-3 for 1024 pictures, 5 epochs warm-up, cosine to 1e-6.

The rate follows the pictures of an update, the last value does not. bfloat16 on a GPU, without loss scaling. An
exponential average of the weights is not part of the recipe; one line adds it:
custom_hooks = [dict(type="EMAHook", momentum=1e-4), ...].
"""

auto_scale_lr = dict(base_batch_size=1024, enable=True)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=1.0,
    constructor="ViLLayerDecay",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=5, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochLoop", max_epochs=400, val_interval=10)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
compile_blocks = False  # True fuses the blocks with torch.compile, which takes minutes at the start
