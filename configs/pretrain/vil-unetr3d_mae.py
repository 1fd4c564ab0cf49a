"""Trains ViLUNETR3D without labels on any folder of volumes: predicts the voxels of masked tokens of 8 voxels.

Command:  python tools/train.py configs/pretrain/vil-unetr3d_mae.py --cfg-options data_root=DATA plan=plan.json
Source:   as vil-unet3d_mae.py; tokens of 8 voxels, stochastic depth and clipping of nnssl's plain sequence network.
Result:   Not run yet.
"""

_base_ = ["vil-unet3d_mae.py"]

model = dict(network=dict(_delete_=True, type="ViLUNETR3D", drop_path=0.2), cube_vox=8)
optim_wrapper = dict(optimizer=dict(lr=3e-4, betas=(0.9, 0.98)), clip_grad=dict(max_norm=1.0))
