"""Trains the small ViL of vil2-6x64_upernet_1xb4-600_camvid-160x160.py without labels on CamVid's pictures, 1500 steps.

Data:     the 701 pictures of CamVid's three parts below data/camvid/images; they include those of the validation.
Command:  python tools/train.py configs/pretrain/vil2-6x64_mae_camvid.py
Then:     configs/camvid/vil2-6x64-mae_upernet_1xb4-600_camvid-160x160.py starts from these weights.
Source:   our own recipe, that of vil2-8x96_mae_sample.py with larger patches and batches.
Result:   loss 0.504 on the masked patches at step 1500, from 1.234 at step 21; 36 minutes of one CPU core (float32). After
          fine-tuning: configs/results/README.md, Transfer. Reconstructions: configs/results/vil2-6x64_mae_camvid.
"""

_base_ = "./vil2-8x96_mae_sample.py"

size = 160
train_pipeline = _base_.train_pipeline
train_pipeline[2].size = size  # RandomResizedCrop
model = dict(backbone=dict(dim=64, depth=6, patch_size=16, grid=(10, 10)))
train_dataloader = dict(batch_size=32, dataset=dict(data_root="data/camvid/images", pipeline=train_pipeline))
train_cfg = dict(max_iters=1500)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=500))
custom_hooks = [
    dict(type="StepSeedHook"),
    dict(type="ProbeHook", interval=500),
    dict(type="ReconstructionHook", interval=500),
]
