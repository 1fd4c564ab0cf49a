"""Trains the small ViLUNet3D without labels on the 80 left atria of the training list: 1200 steps of two patches.

Command:  python tools/train.py configs/pretrain/vil-unet3d_mae_left-atrium.py
Then:     python tools/train.py configs/volumes/vil-unet3d-mae_600_left-atrium.py
Source:   masking and loss of vil-unet3d_mae.py; data, plan and network of its fine-tuning.
Result:   loss 0.274 on the masked places at step 1200, from 0.649 at step 40; 13 minutes of one CPU core (float32). No gain
          after fine-tuning: configs/results/README.md, Left atrium. Reconstructions: configs/results/vil-unet3d_mae_left-atrium.
"""

_base_ = ["../volumes/vil-unet3d_600_left-atrium.py"]

datalist = "unlabelled.json"
model = dict(type="MaskedVolumeModel", cube_vox=8, mask_ratio=(0.75, 0.75), network=dict(block="vil"))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="UnlabelledVolumes",
        data_root={{_base_.data_root}},
        plan={{_base_.plan}},
        datalist=datalist,
    )
)
val_dataloader = val_evaluator = val_cfg = test_dataloader = test_evaluator = test_cfg = None
train_cfg = dict(max_iters=1200)
default_hooks = dict(checkpoint=dict(interval=400, save_best=None))
custom_hooks = [dict(type="StepSeedHook"), dict(type="ReconstructionHook", interval=400)]
