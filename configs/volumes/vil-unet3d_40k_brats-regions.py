"""Trains ViLUNet3D on the nested regions of MSD Task01 BrainTumour, fold 0, with sigmoid outputs instead of classes.

Command:  python tools/train.py configs/volumes/vil-unet3d_40k_brats-regions.py
Source:   our own recipe; the regions and their order in masks are those of nnU-Net's region-based training.
Result:   Not run yet.
"""

_base_ = ["vil-unet3d_40k_brats.py"]

plan = dict(
    labels=dict(_delete_=True, background=0, whole=[1, 2, 3], core=[2, 3], enhancing=3),
    class_order=["background", "whole", "core", "enhancing"],
    regions_class_order=[1, 2, 3],
)
shared = dict(plan=plan)
model = dict(plan=plan)
train_dataloader = dict(dataset=dict(plan=plan))
val_dataloader = test_dataloader = dict(dataset=dict(plan=plan))
val_evaluator = test_evaluator = dict(plan=plan)
