"""ViLUNet3D on MSD Task01 BrainTumour, fold 0; Dice of whole tumour, core and enhancing.

Command:  python tools/train.py configs/volumes/vil-unet3d_40k_brats.py
Result:   Not run yet.
"""

_base_ = [
    "../_base_/models/vil_unet3d.py",
    "../_base_/datasets/brats.py",
    "../_base_/schedules/adamw_volumes_40k.py",
    "../_base_/volumes_runtime.py",
]

model = dict(plan={{_base_.plan}})
