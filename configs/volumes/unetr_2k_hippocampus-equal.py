"""Trains MONAI's UNETR, on patches of 48 x 64 x 48 voxels: its tokens are cubes of 16.

Command:  python tools/train.py configs/volumes/unetr_2k_hippocampus-equal.py
Source:   our own comparison; all parts but the network and the patch are the twin's.
Twin:     configs/volumes/vil-unet3d_2k_hippocampus-equal.py: same trainer, steps and seed.
Result:   Dice 0.862 (0.867, 0.858), HD95 1.69 mm, NSD 0.920; 52 held-out cases, one seed, one CPU core,
          float32. Dice 0.022 below the ViLUNet3D twin, paired over cases, p 4e-7. Without
          VolumeClassPriorHook in custom_hooks, as the others. Per case: configs/results/hippocampus_small/unetr.csv.
"""

_base_ = "./vil-unet3d_2k_hippocampus-equal.py"

plan = dict(patch_vox=(48, 64, 48))
train_dataloader = val_dataloader = test_dataloader = dict(dataset=dict(plan=plan))
val_evaluator = test_evaluator = dict(plan=plan)
model = dict(
    plan=plan,
    network=dict(_delete_=True, type="UNETR", feature_size=8, hidden_size=96, mlp_dim=384, num_heads=4),
)
