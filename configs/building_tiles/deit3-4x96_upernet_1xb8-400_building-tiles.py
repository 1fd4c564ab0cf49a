"""Trains the transformer control of vil2-8x96_upernet_1xb8-400_building-tiles.py: attention blocks in place of ViL's.

Command:  python tools/train.py configs/building_tiles/deit3-4x96_upernet_1xb8-400_building-tiles.py
          --cfg-options data_root=CLONE/tests/testing_data/data/frame_field_data
Source:   our own recipe. Four transformer blocks have about the parameters of eight ViL blocks; all else is the same.
Result:   mIoU 77.60, aAcc 90.69 on 3 tiles after 400 steps, one seed; 10 minutes of one CPU core (float32). Per class
          and curves: configs/results/deit3-4x96_upernet_1xb8-400_building-tiles.
"""

_base_ = "./vil2-8x96_upernet_1xb8-400_building-tiles.py"

model = dict(backbone=dict(variant="deit3-tiny", depth=4, out_indices=(0, 1, 2, 3), layerscale=None))
optim_wrapper = dict(paramwise_cfg=dict(blocks_per_layer=1))
