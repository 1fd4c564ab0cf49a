"""Trains MONAI's SwinUNETR, on patches of 64 voxels: it halves them five times.

Command:  python tools/train.py configs/volumes/swinunetr_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network and the patch are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, steps and seed.
Result:   Dice 0.874 (0.880, 0.867), HD95 1.63 mm, NSD 0.932; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.011 below the ViLUNet3D twin, paired over cases, p 2e-4. Without
          VolumeClassPriorHook in custom_hooks, as the others. Per case: configs/results/hippocampus_small/swinunetr.csv.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

plan = dict(patch_vox=(64, 64, 64))
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(plan=plan))
val_evaluator = test_evaluator = dict(plan=plan)
model = dict(
    plan=plan,
    network=dict(_delete_=True, type="SwinUNETR", feature_size=12, depths=(1, 1, 1, 1)),
)
