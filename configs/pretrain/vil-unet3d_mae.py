"""Trains ViLUNet3D without labels on any folder of volumes: predicts the voxels of masked cubes, 75 % of all.

Command:  python tools/volumes/plan.py DATA --unlabelled --out plan.json
          python tools/train.py configs/pretrain/vil-unet3d_mae.py --cfg-options data_root=DATA plan=plan.json
Then:     python tools/train.py configs/vil_unet3d_volumes.py --cfg-options data_root=LABELLED plan=labelled.json
          model.init_cfg.type=Pretrained model.init_cfg.checkpoint=FILE, with the same spacing, patch and network; the
          plan of the labelled data serves for both.
Source:   cubes of 16 voxels, mask ratio and loss of the masked autoencoder of nnssl (arXiv 2410.23132); AdamW is ours.
Result:   Not run yet.
"""

_base_ = [
    "../_base_/schedules/adamw_volumes_40k.py",
    "../_base_/volumes_runtime.py",
]

data_root = "data/volumes"
plan = "plan.json"
datalist = None
shared = dict(data_root=data_root, plan=plan, datalist=datalist, batch_size=2)
model = dict(
    type="MaskedVolumeModel",
    plan=plan,
    network=dict(type="ViLUNet3D"),
    cube_vox=16,
    mask_ratio=(0.75, 0.75),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="KeyedInfiniteSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    dataset=dict(type="UnlabelledVolumes", data_root=data_root, plan=plan, datalist=datalist),
)
val_cfg = test_cfg = None
default_hooks = dict(checkpoint=dict(interval=1000, save_best=None))
custom_hooks = [dict(type="StepSeedHook"), dict(type="ReconstructionHook", interval=2000)]
