"""Sets masked pretraining (MAE, arXiv 2111.06377, table 8): AdamW 1.5e-4 for 256 pictures, 40 epochs warm-up, cosine.

The rate follows the pictures of an update. bfloat16 on a GPU, without loss scaling.
"""

auto_scale_lr = dict(base_batch_size=256, enable=True)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=1.0,
    constructor="ViLLayerDecay",
    optimizer=dict(type="AdamW", lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=40, eta_min=0.0, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type="EpochLoop", max_epochs=800)
