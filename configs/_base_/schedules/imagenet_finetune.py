"""Sets ImageNet fine-tuning at another size: 20 epochs of AdamW at 1e-5 for 1024 pictures, no clipping.

Layers share one rate. `model.init_cfg` names the weights; the position embedding is resized once, when they are loaded.
"""

_base_ = ["imagenet.py"]

optim_wrapper = dict(optimizer=dict(lr=1e-5), clip_grad=None)
train_cfg = dict(max_epochs=20, val_interval=1)
