"""Trains a small ViL (v2, 8 blocks of 96 channels, patches of 4 px) with UperNet on the vessels of the retina in DRIVE.

Command:  python tools/dataset_converters/make_drive.py DRIVE
          python tools/train.py configs/drive/vil2-8x96-patch4_upernet_1xb4-200_drive.py
Source:   our own recipe; 20 pictures to train and 20 to test, as the authors of the set divide them (IEEE TMI 23:501,
          2004). Truth is the first observer's.
Result:   mIoU 65.36 (vessels 36.81), aAcc 94.11 after 200 steps, one seed; 4 minutes of one CPU core (float32). Its
          control: 63.08. Without ClassPriorHook no vessel is found after 400 steps. Per class and curves:
          configs/results/vil2-8x96-patch4_upernet_1xb4-200_drive.
"""

_base_ = "../vil_upernet_images.py"

data_root = "data/drive"
crop_size = (128, 128)
image_scale = (584, 584)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(patch_size=4, grid=(32, 32)),
)
train_dataloader = dict(batch_size=4)
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
custom_hooks = [*_base_.custom_hooks, dict(type="ClassPriorHook")]  # vessels are a tenth of the pixels
