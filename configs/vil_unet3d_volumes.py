"""ViLUNet3D on any folder of volumes, as its plan says.

Command:  python tools/volumes/plan.py DATA --out plan.json
          python tools/train.py configs/vil_unet3d_volumes.py --cfg-options data_root=DATA plan=plan.json [fold=1]
Result:   yours.
"""

_base_ = [
    "_base_/datasets/volumes.py",
    "_base_/schedules/adamw_volumes.py",
    "_base_/volumes_runtime.py",
]

data_root = "data/volumes"
plan = "plan.json"
model = dict(type="VolumeSegmentor", network=dict(type="ViLUNet3D"))
train_dataloader = dict(batch_size=None)
