"""A small ViL (v2, 6 blocks of 64 channels) classifies crops of CamVid's training pictures by their majority class.

Data:     python tools/dataset_converters/make_crops.py --most 500
Command:  python tools/train.py configs/camvid/vil2-6x64_8e_camvid-crops-96.py --resume
Transfer: configs/camvid/vil2-6x64-crops_upernet_1xb4-600_camvid-160x160.py
Probe:    python tools/studies/probe.py configs/camvid/vil2-6x64_8e_camvid-crops-96.py work_dirs/vil2-6x64_8e_camvid-crops-96/epoch_8.pth
Result:   seeds 0, 1, 2: top-1 65.6, 65.9, 66.5 on 343 held-out crops of 7 classes; seed 0 frozen: k-NN 65.3 and linear
          67.6, where random weights give 47.2 and 43.4 (float32, one CPU core, 5 minutes a run).
          configs/results/vil2-6x64_8e_camvid-crops-96.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/imagenet.py",
    "../_base_/runtime_epochs.py",
]

data_root = "data/camvid_crops"
size = 96
model = dict(
    variant="vil2-tiny",
    dim=64,
    depth=6,
    grid=(6, 6),
    num_classes=7,
    data_preprocessor=dict(mixup=0.0, cutmix=0.0),
)
train_pipeline = [
    dict(type="SeedSample"),
    dict(type="LoadPicture"),
    dict(type="RandomResizedCrop", size=size, scale=(0.25, 1.0)),
    dict(type="FlipPicture", prob=0.5),
    dict(type="PictureJitter", brightness=0.3, contrast=0.3, saturation=0.3),
    dict(type="PackPicture"),
]
test_pipeline = [
    dict(type="LoadPicture"),
    dict(type="ResizeCentreCrop", size=size),
    dict(type="PackPicture"),
]
train_dataloader = dict(batch_size=64, num_workers=1, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, num_workers=1, dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = val_dataloader
auto_scale_lr = None
param_scheduler = [
    dict(type="WarmupCosineLR", warmup=1, eta_min=1e-6, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=8, val_interval=2)
default_hooks = dict(checkpoint=dict(interval=1), logger=dict(interval=20))
