"""Sets fine-tuning on long sequences as in the ViL paper: 30 epochs at a constant 1e-5 after the warm-up, no clipping.

With `model.stride=8` a picture of 224 px has 27 x 27 = 729 tokens in place of 196. The position embedding stays 14 x 14
and is resized in every forward pass, as the authors' is, so that these checkpoints and the others have the same shapes.
"""

_base_ = ["imagenet_finetune.py"]

optim_wrapper = dict(optimizer=dict(weight_decay=1e-8))
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=5, eta_min=1e-5, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=30)
