"""Trains a small ViL (v2, 8 blocks of 96 channels, patches of 8 px) with UperNet on buildings in 12 GeoTIFF tiles.

Command:  python tools/train.py configs/building_tiles/vil2-8x96_upernet_1xb8-400_building-tiles.py
          --cfg-options data_root=CLONE/tests/testing_data/data/frame_field_data
Source:   our own recipe; 12 orthophotos of 571 x 571 px (0.35 m, UTM) of dsgoficial/pytorch_segmentation_models_trainer,
          of which a quarter is drawn to validate.
Result:   mIoU 78.25, aAcc 91.07 on 3 tiles after 400 steps, one seed; one CPU core (float32). Its control: 77.60.
          Per class and curves: configs/results/vil2-8x96_upernet_1xb8-400_building-tiles.
"""

_base_ = "../vil_upernet_images.py"

data_root = "data/building_tiles"
pictures = "images/Ortoimagem_MI_2970-1-SO"
masks = "polygon_masks"
val_share = 0.25
train_cfg = dict(max_iters=400, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
