"""Trains HierViL-T without labels: predicts the pixels of masked patches of 32 px of ImageNet-1K, 800 epochs at 224 px.

Command:  torchrun --nproc_per_node 8 tools/train.py configs/pretrain/hiervil-t_mae_800e_in1k-224.py --launcher pytorch
Source:   as vil2-t_mae_800e_in1k-192.py; patches of the last stride, 32 px, as SimMIM masks Swin (arXiv 2111.09886).
Result:   Not run yet.
"""

_base_ = ["vil2-t_mae_800e_in1k-192.py"]

size = 224
train_pipeline = _base_.train_pipeline
train_pipeline[2].size = size  # RandomResizedCrop
model = dict(
    backbone=dict(_delete_=True, type="HierViL", variant="hiervil-tiny", out_indices=(-1,), out_norm=False),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
