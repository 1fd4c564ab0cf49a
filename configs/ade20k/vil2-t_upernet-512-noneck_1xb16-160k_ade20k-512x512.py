"""ViL-T with a 512-channel UperNet straight on the four feature maps, all of stride 16.

Command:  python tools/train.py configs/ade20k/vil2-t_upernet-512-noneck_1xb16-160k_ade20k-512x512.py --amp (and init_cfg as in vil_upernet_ade20k.py)
Why:      without the pyramid the same head costs 7.6 times less; PlainMamba-L1 reports 44.1 this way.
Result:   to be measured.
"""

_base_ = [
    "../_base_/models/vil_upernet.py",
    "../_base_/datasets/ade20k.py",
    "../_base_/schedules/adamw_160k.py",
    "../_base_/runtime.py",
]

model = dict(
    neck=None,
    decode_head=dict(channels=512),
    auxiliary_head=dict(channels=256),
)
