"""Trains the small ViL of vil_upernet_sample.py without labels on the pictures of the synthetic sample, 300 steps.

Command:  python tools/dataset_converters/make_sample.py && python tools/train.py configs/pretrain/vil2-8x96_mae_sample.py
Then:     python tools/train.py configs/vil_upernet_sample.py --cfg-options model.backbone.init_cfg.type=Pretrained
          model.backbone.init_cfg.checkpoint=work_dirs/vil2-8x96_mae_sample/iter_300.pth
Source:   our own recipe, of the parts of vil2-t_mae_800e_in1k-192.py.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/masked_vil.py",
    "../_base_/datasets/pictures.py",
    "../_base_/schedules/adamw_scratch.py",
    "../_base_/pretraining_runtime.py",
]

size = 128
train_pipeline = _base_.train_pipeline
train_pipeline[2].size = size  # RandomResizedCrop
model = dict(backbone=dict(dim=96, depth=8, patch_size=8, grid=(16, 16)))
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    sampler=dict(_delete_=True, type="KeyedInfiniteSampler", shuffle=True),
    dataset=dict(data_root="data/sample/images/training", pipeline=train_pipeline),
)
optim_wrapper = dict(optimizer=dict(lr=1.5e-3))
train_cfg = dict(max_iters=300)
val_cfg = test_cfg = None
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
custom_hooks = [
    dict(type="StepSeedHook"),
    dict(type="ProbeHook", interval=100),
    dict(type="ReconstructionHook", interval=100),
]
