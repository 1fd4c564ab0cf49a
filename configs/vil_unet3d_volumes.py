"""Trains ViLUNet3D on any folder of volumes, by its plan.

Command:  python tools/volumes/plan.py DATA --out plan.json
          python tools/train.py configs/vil_unet3d_volumes.py --cfg-options data_root=DATA plan=plan.json [fold=1]
Source:   our own recipe; network and plan follow nnU-Net's rules (Nat. Methods 18:203, 2021).
Result:   Not run yet.
"""

_base_ = [
    "_base_/datasets/volumes.py",
    "_base_/schedules/adamw_volumes.py",
    "_base_/volumes_runtime.py",
]

data_root = "data/volumes"
plan = "plan.json"
shared = dict(data_root=data_root, plan=plan, batch_size=2)  # tools/train.py takes the batch size of the plan
model = dict(type="VolumeSegmentor", plan=plan, network=dict(type="ViLUNet3D"))
train_dataloader = dict(batch_size=2, dataset=dict(data_root=data_root, plan=plan))
val_dataloader = test_dataloader = dict(dataset=dict(data_root=data_root, plan=plan))
val_evaluator = test_evaluator = dict(plan=plan)
