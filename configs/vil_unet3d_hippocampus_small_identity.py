"""The control without sequence blocks.

Command:  python tools/train.py configs/vil_unet3d_hippocampus_small_identity.py
Twin:     configs/vil_unet3d_hippocampus_small.py: same trainer, patches, steps and seed.
Result:   Dice 0.619 (Anterior 0.869, Posterior 0.369), HD95 3.69 mm, NSD 0.601; one CPU core, float32, one seed. The
          training loss equals the ViL twin's: its Posterior lies just under the probability that wins. 500 steps are
          too few to tell the two apart. Per case: configs/results/hippocampus_small/identity.csv.
"""

_base_ = [
    "_base_/models/vil_unet3d_small.py",
    "_base_/datasets/hippocampus.py",
    "_base_/schedules/adamw_volumes_equal.py",
    "_base_/volumes_runtime.py",
]

model = dict(network=dict(block="identity"))
