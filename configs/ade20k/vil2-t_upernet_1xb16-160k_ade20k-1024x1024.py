"""ViL-T + UperNet on ADE20K at twice the resolution: short side 1024, crops of 1024 px, 4096 tokens.

Command:  python tools/train.py configs/ade20k/vil2-t_upernet_1xb16-160k_ade20k-1024x1024.py --amp (and init_cfg as in vil_upernet_ade20k.py)
Why:      ViL's cost grows with the number of tokens, a transformer's with its square.
Protocol: short side 1024, windows of 1024 every 682.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

short = 1024
train_pipeline = _base_.train_pipeline
train_pipeline[3].scale = (4 * short, short)
train_pipeline[4].crop_size = (short, short)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (4 * short, short)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(size=(short, short)),
    backbone=dict(grid=(short // 16, short // 16), with_cp=True),
    test_cfg=dict(crop_size=(short, short), stride=(682, 682)),
)
